// What static/vendor/htm-preact.js exports, for tsc: it has no types of its own beside it.
export { Component, createContext, h, render } from "preact";
export * from "preact/hooks";
export { html } from "htm/preact";
