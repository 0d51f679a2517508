// Values that several parts of the page show, and that are drawn again when they change.

import { useLayoutEffect, useReducer } from "./html.js";

/** @template T */
export class Store {
  #value;
  /** @type {Set<() => void>} */
  #listeners = new Set();

  /** @param {T} value */
  constructor(value) {
    this.#value = value;
  }

  get value() {
    return this.#value;
  }

  /** @param {T} value */
  set(value) {
    if (value === this.#value) return;
    this.#value = value;
    for (const listener of [...this.#listeners]) listener();
  }

  /**
   * Call `listener` after each change, until the function that is returned is called.
   * @param {() => void} listener
   */
  subscribe(listener) {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  }
}

/**
 * The value of a store, for a component that is drawn again when it changes.
 * @template T
 * @param {Store<T>} store
 * @returns {T}
 */
export function useStore(store) {
  const [, redraw] = useReducer((/** @type {number} */ count) => count + 1, 0);
  const { value } = store;
  useLayoutEffect(() => {
    const stop = store.subscribe(() => redraw(undefined));
    if (store.value !== value) redraw(undefined); // it changed after it was drawn
    return stop;
  }, [store]);
  return value;
}
