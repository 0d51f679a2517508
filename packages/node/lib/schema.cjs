'use strict';
// The JSON Schema of an interface, as `python -m twistedipc.ipc dump` prints it: what each value must be, and the
// fingerprints by which two sides find out whether they have declared the same.

const { Introduced } = require('./catalogue.cjs');

const REF = '#/$defs/';
/** The format of what is dumped. */
const FORMAT = 1;
/** Characters of a value that an error shows. */
const SHOWN = 40;

/** @typedef {any} Part of a JSON Schema: an object, or true, or false */
/** @typedef {(value: any, path: string) => string} Check says what is wrong; "" if nothing is */

/** What is written of a value's type, in words. @type {Record<string, (value: any) => boolean>} */
const TYPES = {
  null: (value) => value === null,
  boolean: (value) => typeof value === 'boolean',
  integer: (value) => Number.isInteger(value),
  number: (value) => typeof value === 'number' && Number.isFinite(value),
  string: (value) => typeof value === 'string',
  array: Array.isArray,
  object: (value) => typeof value === 'object' && value !== null && !Array.isArray(value),
};

/** Formats of a text. @type {Record<string, RegExp>} */
const FORMATS = {
  'date-time': /^\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(?:\.\d+)?(?:[Zz]|[+-]\d\d:?\d\d)?$/,
  date: /^\d{4}-\d\d-\d\d$/,
  time: /^\d\d:\d\d:\d\d(?:\.\d+)?(?:[Zz]|[+-]\d\d:?\d\d)?$/,
  duration: /^-?P(?=.)(?:\d+(?:\.\d+)?[WD])*(?:T(?:\d+(?:\.\d+)?[HMS])+)?$/i,
  uuid: /^[0-9a-f]{8}-?(?:[0-9a-f]{4}-?){3}[0-9a-f]{12}$/i,
  decimal: /^[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?$|^[+-]?(?:inf(?:inity)?|nan)$/i,
};
const BASE64 = /^[A-Za-z0-9+/]*={0,2}$/;

/** Checks made of parts of a schema. */
class Checks {
  /** @param {Record<string, Part>} definitions */
  constructor(definitions) {
    this._definitions = definitions;
    /** of the definitions; without a check as long as it is being made @type {Map<string, { check?: Check }>} */
    this._named = new Map();
  }

  /**
   * @param {Part} part
   * @returns {Check}
   */
  of(part) {
    if (part === true || part === undefined) return () => '';
    if (part === false) return (_, path) => `nothing may be at ${path}`;
    if (part.$ref) return this._ofName(part.$ref.slice(REF.length));
    const checks = this._checks(part);
    if (checks.length === 1) return checks[0];
    return (value, path) => {
      for (const check of checks) {
        const wrong = check(value, path);
        if (wrong) return wrong;
      }
      return '';
    };
  }

  /** @param {string} name of a definition, which may hold itself */
  _ofName(name) {
    const definition = this._definitions[name];
    if (definition === undefined) throw new TypeError(`the schema has no definition ${name}`);
    const known = this._named.get(name);
    /** @type {{ check?: Check }} */
    const named = known ?? {};
    if (!known) {
      this._named.set(name, named);
      named.check = this.of(definition);
    }
    return (/** @type {any} */ value, /** @type {string} */ path) => /** @type {Check} */ (named.check)(value, path);
  }

  /**
   * @param {Part} part
   * @returns {Check[]}
   */
  _checks(part) {
    /** @type {Check[]} */
    const checks = [];
    if (part.type !== undefined) checks.push(ofType(part.type));
    if ('const' in part) checks.push(oneOf([part.const]));
    if (part.enum) checks.push(oneOf(part.enum));
    if (part.anyOf) checks.push(this._any(part.anyOf));
    checks.push(...bounds(part));
    if (part.prefixItems || part.items !== undefined) checks.push(this._items(part));
    if (part.properties || part.required || part.additionalProperties !== undefined || part.propertyNames) {
      checks.push(this._members(part));
    }
    return checks;
  }

  /** @param {Part[]} parts */
  _any(parts) {
    const checks = parts.map((part) => this.of(part));
    return (/** @type {any} */ value, /** @type {string} */ path) => {
      const all = [];
      for (const check of checks) {
        const wrong = check(value, path);
        if (!wrong) return '';
        all.push(wrong);
      }
      // What is wrong farther inside says more than that it is no null.
      return all.sort((a, b) => b.length - a.length)[0] ?? '';
    };
  }

  /** @param {Part} part */
  _items({ prefixItems = [], items }) {
    const first = prefixItems.map((/** @type {Part} */ each) => this.of(each));
    const rest = this.of(items);
    return (/** @type {any} */ value, /** @type {string} */ path) => {
      if (!Array.isArray(value)) return '';
      for (let index = 0; index < value.length; index++) {
        const wrong = (first[index] ?? rest)(value[index], `${path}[${index}]`);
        if (wrong) return wrong;
      }
      return '';
    };
  }

  /** @param {Part} part */
  _members({ properties = {}, required = [], additionalProperties = true, propertyNames }) {
    const known = new Map(Object.entries(properties).map(([name, each]) => [name, this.of(each)]));
    const others = additionalProperties === true ? undefined : this.of(additionalProperties);
    const names = propertyNames && this.of(propertyNames);
    return (/** @type {any} */ value, /** @type {string} */ path) => {
      if (!TYPES.object(value)) return '';
      for (const name of required) if (value[name] === undefined) return `the field \`${name}\` is missing at ${path}`;
      for (const [name, each] of Object.entries(value)) {
        if (each === undefined) continue; // JSON leaves it out
        const at = `${path}.${name}`;
        const wrong = (known.get(name) ?? others)?.(each, at) || (known.has(name) ? '' : names?.(name, at));
        if (wrong) return wrong;
      }
      return '';
    };
  }
}

/** @param {string | string[]} type */
function ofType(type) {
  const wanted = [type].flat();
  const words = wanted.join(' or ');
  const checks = wanted.map((each) => TYPES[each] ?? (() => true));
  return (/** @type {any} */ value, /** @type {string} */ path) =>
    checks.some((check) => check(value)) ? '' : `${path} must be ${words}, and not ${shown(value)}`;
}

/** @param {any[]} values */
function oneOf(values) {
  const all = new Set(values);
  const words = values.map((each) => JSON.stringify(each)).join(', ');
  return (/** @type {any} */ value, /** @type {string} */ path) =>
    all.has(value) ? '' : `${path} must be ${values.length > 1 ? 'one of ' : ''}${words}, and not ${shown(value)}`;
}

/**
 * @param {Part} part
 * @returns {Check[]}
 */
function bounds(part) {
  const expression = part.pattern === undefined ? undefined : regularExpression(part.pattern);
  /** @type {Array<[string, (value: any, bound: any) => boolean, string]>} */
  const all = [
    ['minimum', (value, least) => typeof value !== 'number' || value >= least, 'at least'],
    ['maximum', (value, most) => typeof value !== 'number' || value <= most, 'at most'],
    ['exclusiveMinimum', (value, least) => typeof value !== 'number' || value > least, 'more than'],
    ['exclusiveMaximum', (value, most) => typeof value !== 'number' || value < most, 'less than'],
    ['multipleOf', (value, of) => typeof value !== 'number' || Number.isInteger(value / of), 'a multiple of'],
    ['minLength', (value, least) => typeof value !== 'string' || [...value].length >= least, 'of a length of at least'],
    ['maxLength', (value, most) => typeof value !== 'string' || [...value].length <= most, 'of a length of at most'],
    ['minItems', (value, least) => !Array.isArray(value) || value.length >= least, 'of a length of at least'],
    ['maxItems', (value, most) => !Array.isArray(value) || value.length <= most, 'of a length of at most'],
    ['minProperties', (value, least) => !TYPES.object(value) || Object.keys(value).length >= least, 'of a size of at least'],
    ['maxProperties', (value, most) => !TYPES.object(value) || Object.keys(value).length <= most, 'of a size of at most'],
    ['pattern', (value) => typeof value !== 'string' || /** @type {RegExp} */ (expression).test(value), 'like'],
    ['format', (value, format) => typeof value !== 'string' || (FORMATS[format]?.test(value) ?? true), 'of the format'],
    ['contentEncoding', (value) => typeof value !== 'string' || (value.length % 4 === 0 && BASE64.test(value)), 'in'],
  ];
  return all
    .filter(([keyword]) => part[keyword] !== undefined)
    .map(([keyword, isGood, words]) => (value, path) =>
      isGood(value, part[keyword]) ? '' : `${path} must be ${words} ${part[keyword]}, and not ${shown(value)}`,
    );
}

/**
 * @param {string} pattern of Python, whose end of a text is \Z
 * @throws {TypeError} JavaScript has no such pattern
 */
function regularExpression(pattern) {
  try {
    return new RegExp(pattern.replace(/\\Z/g, '$'), 'u');
  } catch (error) {
    const why = /** @type {Error} */ (error).message;
    throw new TypeError(`a pattern of the schema is none of JavaScript's, so it can't be checked here: ${why}`);
  }
}

/** @param {any} value */
function shown(value) {
  const text = JSON.stringify(value) ?? typeof value;
  return text.length <= SHOWN ? text : `${text.slice(0, SHOWN - 1)}…`;
}

// -- the whole --------------------------------------------------------------------------------------------------------

/** What an interface's values must be. */
class Schema {
  /** @param {any} dumped */
  constructor(dumped) {
    if (dumped?.format !== FORMAT || typeof dumped.interface !== 'string') {
      throw new TypeError('this is no schema of an interface, as `python -m twistedipc.ipc dump` prints it');
    }
    const { messages = {}, requests = {}, streamed = {}, streams = {}, takes = [], $defs: definitions = {} } = dumped;
    const checks = new Checks(definitions);
    this._takes = catalogueOf(takes);
    /** by kind and name @type {Map<string, { check: Check, answer: Check }>} */
    this._parts = new Map();
    /**
     * @param {string} kind
     * @param {string} name
     * @param {Part[]} parts
     */
    const add = (kind, name, parts) => {
      const [check, answer = () => ''] = parts.map((part) => checks.of(part));
      this._parts.set(`${kind} ${name}`, { check, answer });
    };
    for (const [name, part] of Object.entries(messages)) add('message', name, [part]);
    for (const [name, { request, reply }] of Object.entries(requests)) add('call', name, [request, reply]);
    for (const [name, { request, item }] of Object.entries(streamed)) add('items', name, [request, item]);
    for (const [name, part] of Object.entries(streams)) add('stream', name, [part]);
    this.interface = {
      name: dumped.interface,
      calls: Object.keys(requests),
      streamed: Object.keys(streamed),
      messages: Object.keys(messages),
      streams: Object.keys(streams),
      schema: this,
    };
  }

  /**
   * Say what is wrong with a message, a request or an item of a stream; "" if nothing is.
   *
   * @param {import('./catalogue.cjs').Kind} kind
   * @param {string} name
   * @param {unknown} value
   */
  wrong(kind, name, value) {
    return complaint(this._parts.get(`${kind} ${name}`)?.check, value);
  }

  /**
   * The same of what answers a call: the reply, or one of the items.
   *
   * @param {'call' | 'items'} kind
   * @param {string} name
   * @param {unknown} value
   */
  wrongAnswer(kind, name, value) {
    return complaint(this._parts.get(`${kind} ${name}`)?.answer, value);
  }

  /**
   * The fingerprints that Python's library has made. It alone can: they depend on how it writes numbers, say.
   *
   * @param {import('./catalogue.cjs').Kind} kind
   * @param {string} name
   * @returns {string[] | undefined} undefined: they aren't known
   */
  fingerprints(kind, name) {
    return this._takes.fingerprints(kind, name);
  }
}

/** @param {any} takes rows of something, its name, and its fingerprints */
function catalogueOf(takes) {
  const introduced = new Introduced();
  try {
    if (!Array.isArray(takes)) throw new TypeError('no array');
    introduced.add({ takes });
  } catch (error) {
    throw new TypeError(`the fingerprints of the schema (\`takes\`) are none: ${/** @type {Error} */ (error).message}`);
  }
  return introduced.catalogue();
}

/**
 * What a check says of a value. A type that holds itself has values of any depth, and a check goes as deep.
 *
 * @param {Check | undefined} check
 * @param {unknown} value
 */
function complaint(check, value) {
  try {
    return check?.(value, '$') ?? '';
  } catch (error) {
    // The stack's end is a RangeError.
    if (!(error instanceof RangeError)) throw error;
    return 'it is nested too deeply, or too long, to be checked';
  }
}

/**
 * The interface that a schema is of, as `dial` and `listen` take it. With it, what is sent and what comes is checked.
 *
 * @param {any} dumped the parsed output of `python -m twistedipc.ipc dump MODULE:NAME`
 */
function fromSchema(dumped) {
  return new Schema(dumped).interface;
}

module.exports = { Schema, fromSchema };
