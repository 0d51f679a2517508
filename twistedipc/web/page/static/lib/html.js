// The page's library, and the only module that knows which it is: htm with Preact.
//
// `html` makes elements from a template, with components as its tags: html`<${Chip} state=${state} />`. Values become text
// nodes and properties, never markup.

export {
  Component, createContext, h, html, render, useCallback, useContext, useEffect, useLayoutEffect, useMemo, useReducer, useRef, useState,
} from "/static/vendor/htm-preact.js";
