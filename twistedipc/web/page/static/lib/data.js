// What components are made of that show something of the API: they ask, follow, and come back after an outage by themselves.

import { api, Refused } from "./api.js";
import { useCallback, useEffect, useLayoutEffect, useRef, useState } from "./html.js";
import { Pause } from "./rows.js";
import { stream, trouble } from "./shell.js";

const SOON = 1_000; // milliseconds until a request is made again that wasn't answered
const SOON_TIMES = 10; // then more seldom: the stream, when it is back, has all asked again
const LONGEST_PAUSE = 15_000;

/** Whether an error may be gone when it is asked again. */
const passes = (error) => error instanceof Refused && (error.status === 0 || error.status >= 500 || error.status === 429);

/**
 * What the API answers at a path, asked again after outages, when the window is looked at again, and as often as is said.
 *
 * @param {string | null} path null: nothing is asked
 * @param {{ every?: number, on?: any[] }} [more] milliseconds after which it is asked again while it is looked at; and what
 *   else has it asked again when it changes
 * @returns {{ data: any, error: Refused | null, reload: () => Promise<void>, put: (data: any) => void }} the last answer, or
 *   null; why there is no newer one, or null; asks again; takes an answer that is known
 */
export function useApi(path, { every = 0, on = [] } = {}) {
  const [answer, setAnswer] = useState({ path, data: null, error: null });
  const mine = useRef({ path, number: 0, pause: new Pause(), tries: 0 });

  const reload = useCallback(async () => {
    const me = mine.current;
    if (path === null || me.path !== path) return;
    me.pause.stop();
    const number = ++me.number;
    try {
      const data = await api("GET", path);
      if (me.number !== number || me.path !== path) return;
      me.tries = 0;
      setAnswer({ path, data, error: null });
      if (every) me.pause.begin(() => document.hidden || reload(), every);
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      if (me.number !== number || me.path !== path) return;
      if (error.status === 401) trouble(error);
      setAnswer((before) => ({ path, data: before.path === path ? before.data : null, error }));
      if (!passes(error)) return;
      me.tries += 1;
      me.pause.begin(reload, Math.min(SOON * 2 ** Math.max(0, me.tries - SOON_TIMES), LONGEST_PAUSE));
    }
  }, [path, every]);

  useEffect(() => {
    const me = mine.current;
    Object.assign(me, { path, tries: 0 });
    reload();
    const again = () => document.hidden || reload();
    let before = stream.connection.value.state;
    const stop = stream.connection.subscribe(() => {
      const { state } = stream.connection.value;
      if (state === "live" && before === "reconnecting") reload();
      before = state;
    });
    document.addEventListener("visibilitychange", again);
    return () => {
      stop();
      document.removeEventListener("visibilitychange", again);
      me.pause.stop();
      me.number += 1; // what comes now is no one's any more
    };
  }, [reload, ...on]);

  const put = useCallback((data) => {
    const me = mine.current;
    me.number += 1;
    // Also where this takes the place of an answer; but what is put often mustn't put off the next one.
    if (every) me.pause.ensure(() => document.hidden || reload(), every);
    setAnswer({ path, data, error: null });
  }, [path, every, reload]);
  const fits = answer.path === path;
  return { data: fits ? answer.data : null, error: fits ? answer.error : null, reload, put };
}

/**
 * Follow a topic of the stream while the component is shown. `heard` may be another function each time.
 * @param {{ topic: string, project?: string }} request
 * @param {(message: any) => boolean} concerns
 * @param {(message: any) => void} heard
 */
export function useTopic(request, concerns, heard) {
  const now = useRef({ concerns, heard });
  useLayoutEffect(() => {
    now.current = { concerns, heard };
  });
  const wanted = JSON.stringify(request);
  useEffect(() => {
    const topic = {
      request: () => JSON.parse(wanted),
      concerns: (message) => now.current.concerns(message),
      heard: (message) => now.current.heard(message),
    };
    stream.follow(topic);
    return () => stream.leave(topic);
  }, [wanted]);
}

/**
 * An action that somebody begins by a button: what runs it, whether it goes on, and why it was refused.
 * @template {any[]} A
 * @param {(...given: A) => Promise<void>} action
 * @returns {{ run: (...given: A) => Promise<boolean>, busy: boolean, error: Refused | null }} `run` returns whether it was done
 */
export function useAction(action) {
  const [{ busy, error }, set] = useState({ busy: false, error: null });
  const there = useRef(true);
  useEffect(() => () => {
    there.current = false;
  }, []);
  const run = async (/** @type {A} */ ...given) => {
    set({ busy: true, error: null });
    try {
      await action(...given);
    } catch (refused) {
      if (!(refused instanceof Refused)) throw refused;
      if (refused.status === 401) trouble(refused);
      if (there.current) set({ busy: false, error: refused });
      return false;
    }
    if (there.current) set({ busy: false, error: null });
    return true;
  };
  return { run, busy, error };
}
