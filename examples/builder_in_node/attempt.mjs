// One attempt of a build: its folder, its log, its steps, and what is said of it on the link.
import { execFile, spawn } from "node:child_process";
import { createHash } from "node:crypto";
import * as fs from "node:fs";
import http from "node:http";
import https from "node:https";
import os from "node:os";
import path from "node:path";
import { StringDecoder } from "node:string_decoder";
import { promisify } from "node:util";
import { pack } from "./archive.mjs";

const OUTPUTS = `dist build out _site .output/public storybook-static .vitepress/dist docs/.vitepress/dist
  .vuepress/dist docs/.vuepress/dist public`.split(/\s+/);
const HELD_BACK = 4 * 1024 * 1024; // bytes of records without an acknowledgement, above which the build waits
const WORDS = "TOKEN|SECRET|PASSWORD|PASSWD|PASSPHRASE|PWD|KEY|APIKEY|CREDENTIALS?|PAT|AUTH|DSN";
const SECRET = new RegExp(`(^|_)(${WORDS})S?(_|$)|(TOKEN|SECRET|PASSWORD|APIKEY|CREDENTIALS)$`, "i");
const OTHERS = ["pnpm-lock.yaml", "yarn.lock", "bun.lock", "bun.lockb"];
const PUBLIC = /^(NEXT_PUBLIC|NUXT_PUBLIC|VITE|VUE_APP|REACT_APP|GATSBY|PUBLIC|EXPO_PUBLIC|STORYBOOK)_|PUBLIC_?KEY/i;

/** What all attempts share: the link that has synced, and what it granted. `attempts` is by "ATTEMPT LEASE". */
export const shared = { link: null, credit: 0, uploads: "", data: "", attempts: new Map() };

/** Say something on the link. Without one it isn't lost: the next sync has what follows from it. */
const say = (type, fields) => shared.link?.connected && shared.link.send(type, fields);

export class Ended extends Error {
  constructor(outcome, reason) {
    super(reason);
    this.outcome = outcome;
  }
}

/** One attempt. Its folder has offer.json, started, journal.ndjson (a batch a line) and result.json. */
export class Attempt {
  constructor(offer) {
    this.offer = offer;
    this.folder = path.join(shared.data, `${offer.attempt}-${offer.lease}`);
    this.about = { attempt: offer.attempt, lease: offer.lease };
    Object.assign(this, { batches: [], open: null, count: 0, hash: createHash("sha256"), underway: 0, sent: 0 });
    Object.assign(this, { child: null, ending: null, result: null, step: -1, steps: [], synced: false });
    const secret = Object.entries({ ...offer.environment, ...offer.parameters });
    const values = secret.filter(([name, value]) => value.length >= 8 && SECRET.test(name) && !PUBLIC.test(name));
    const forms = values.flatMap(([, value]) => value.split("\n")).filter((value) => Buffer.byteLength(value) >= 4);
    const base64 = (value) => Buffer.from(value).toString("base64");
    const spelt = (value) => [value, JSON.stringify(value).slice(1, -1), encodeURIComponent(value), base64(value)];
    this.hidden = forms.flatMap(spelt).sort((a, b) => b.length - a.length);
  }

  static restored(folder) {
    const attempt = new Attempt(JSON.parse(fs.readFileSync(path.join(folder, "offer.json"))));
    const journal = attempt.file("journal.ndjson");
    const lines = fs.existsSync(journal) ? fs.readFileSync(journal, "utf8").split("\n") : [];
    lines.pop(); // what was being written, or nothing
    fs.writeFileSync(journal, lines.map((line) => line + "\n").join(""));
    for (const line of lines) attempt.take(JSON.parse(line));
    const ended = fs.existsSync(attempt.file("result.json"));
    if (ended) attempt.result = JSON.parse(fs.readFileSync(attempt.file("result.json")));
    else if (attempt.begun) attempt.end("lost", "the builder was ended while it built");
    return attempt;
  }

  file(name) {
    return path.join(this.folder, name);
  }

  get begun() {
    return fs.existsSync(this.file("started"));
  }

  get phase() {
    return this.result ? "ended" : this.begun ? "running" : "accepted";
  }

  /** Write a file so that it is whole, and stays. */
  keep(name, content) {
    const descriptor = fs.openSync(this.file(`.${name}`), "w");
    fs.writeSync(descriptor, content);
    fs.fsyncSync(descriptor);
    fs.closeSync(descriptor);
    fs.renameSync(this.file(`.${name}`), this.file(name));
  }

  // -- the log

  hide(text) {
    return this.hidden.reduce((shown, value) => shown.replaceAll(value, "***"), text);
  }

  /** Add a record: a line, an event, or (with `more`) the fragment of a line. */
  record(record, more = false) {
    if (this.open?.step !== this.step) this.flush();
    this.open ??= { type: "lines", first: this.count + 1, time: Date.now(), step: this.step, lines: [], more: [] };
    if (more) this.open.more.push(this.open.lines.length);
    this.open.lines.push(record);
    this.size = (this.size ?? 0) + (typeof record === "string" ? record.length : 200);
    if (this.size > 48 * 1024) this.flush();
    else this.timer ??= setTimeout(() => this.flush(), 50);
  }

  flush() {
    clearTimeout(this.timer);
    const batch = this.open;
    Object.assign(this, { open: null, timer: null, size: 0 });
    if (!batch || this.forgotten) return;
    if (!batch.more.length) delete batch.more;
    fs.appendFileSync(this.file("journal.ndjson"), JSON.stringify(batch) + "\n");
    this.take(batch);
    this.forward();
    if (this.batches.reduce((sum, each) => sum + each.size, 0) > HELD_BACK) this.child?.stdout.pause();
  }

  take(batch) {
    for (const record of batch.lines) {
      this.hash.update((typeof record === "string" ? record : JSON.stringify(record)) + "\n");
    }
    this.count += batch.lines.length;
    this.batches.push({ batch, end: batch.first + batch.lines.length, size: JSON.stringify(batch).length });
  }

  /** Send what is next, as far as the credit goes; the end behind it. */
  forward() {
    if (!this.synced || !shared.link) return;
    for (const each of this.batches) {
      if (each.end <= this.sent + 1) continue;
      const batch = this.part(each.batch, this.sent + 1);
      const size = Buffer.byteLength(JSON.stringify(batch));
      if (this.underway && this.underway + size > shared.credit) return;
      say("log", { ...this.about, batches: [batch] });
      each.sent = size;
      this.underway += size;
      this.sent = each.end - 1;
    }
    if (this.result && !this.open && !this.saying) this.say();
  }

  part(batch, first) {
    const skipped = Math.max(0, first - batch.first);
    if (!skipped) return batch;
    const more = batch.more?.filter((index) => index >= skipped).map((index) => index - skipped);
    return { ...batch, first, lines: batch.lines.slice(skipped), ...(more ? { more } : {}) };
  }

  acknowledged(next) {
    while (this.batches.length && this.batches[0].end <= next) this.underway -= this.batches.shift().sent ?? 0;
    if (this.batches.reduce((sum, each) => sum + each.size, 0) < HELD_BACK / 2) this.child?.stdout.resume();
    this.forward();
  }

  from(next) {
    this.sent = next - 1;
    this.underway = 0;
    for (const each of this.batches) each.sent = 0;
    this.saying = false;
    this.synced = true;
    this.forward();
  }

  /** Upload what was built, and say the end; again after 30 seconds, or when it is synced again. */
  async say() {
    this.saying = true;
    try {
      if (this.result.artifact && !this.uploaded) await this.upload(this.result.artifact);
      say("final", { ...this.about, result: this.result, ...this.age() });
    } catch (error) {
      console.error(`${this.offer.attempt}: ${error.message}`);
      this.trouble = error.message;
    }
    const again = () => ((this.saying = false), shared.attempts.has(key(this.about)) && this.forward());
    setTimeout(again, this.uploaded || !this.result.artifact ? 30_000 : 2000).unref();
  }

  age() {
    return this.resolved ? { resolved_ago: Date.now() - this.resolved } : {};
  }

  async upload({ size, sha256 }) {
    const trouble = this.trouble ? { trouble: this.trouble } : {};
    const grant = await shared.link.call("want_upload", { ...this.about, size, sha256, ...trouble });
    if (!grant.complete) {
      const url = new URL(grant.path, shared.uploads);
      const authorization = `Bearer ${grant.token}`;
      const offset = Number((await request(url, "HEAD", { authorization })).headers["upload-offset"]);
      const rest = fs.readFileSync(this.file("site.tar.gz")).subarray(offset);
      const headers = { authorization, "upload-offset": offset, "content-length": rest.length };
      const answer = await request(url, "PUT", headers, rest);
      if (Number(answer.headers["upload-offset"]) !== size) throw new Error("the apiserver hasn't all of the archive");
    }
    this.uploaded = true;
  }

  // -- the build

  async run() {
    if (this.begun) return;
    this.keep("started", "");
    this.began = Date.now();
    say("started", { ...this.about, time: this.began });
    this.clock = setTimeout(() => this.stop("timed_out", "the build took too long"), this.offer.timeout * 1000);
    try {
      await this.build();
      this.end("succeeded", "");
    } catch (error) {
      this.end(error.outcome ?? "failed", error.message);
    }
  }

  end(outcome, reason) {
    clearTimeout(this.clock);
    clearTimeout(this.idle);
    this.flush();
    const sha256 = this.hash.copy().digest("hex");
    const times = { started: this.began ?? Date.now(), ended: Date.now() };
    const result = { outcome, lines: this.count, sha256, ...times, steps: this.steps, ...this.commit };
    if (reason) result.reason = this.hide(reason);
    if (this.artifact && outcome === "succeeded") result.artifact = this.artifact;
    if (this.forgotten) return;
    this.keep("result.json", JSON.stringify(result));
    this.result = result;
    this.forward();
  }

  async build() {
    const { settings = {}, parameters = {}, environment = {} } = this.offer;
    const work = this.file("work");
    for (const name of ["home", "tmp"]) fs.mkdirSync(this.file(name), { recursive: true });
    await this.own("checkout", () => this.checkout(work));
    const root = path.join(work, settings.root ?? "");
    const has = (name) => fs.existsSync(path.join(root, name));
    if (has(".twistedipc.toml")) throw new Ended("failed", "this builder reads no .twistedipc.toml");
    if (OTHERS.some(has)) throw new Ended("failed", "this builder has no package manager but npm");
    const scripts = has("package.json") && (JSON.parse(fs.readFileSync(path.join(root, "package.json"))).scripts ?? {});
    const install = settings.install ?? (scripts ? (has("package-lock.json") ? "npm ci" : "npm install") : "");
    const build = settings.build ?? (scripts?.build ? "npm run build" : "");
    const variables = { ...this.base(), ...environment, ...parameters };
    if (install) await this.command("install", install, root, variables);
    if (build) await this.command("build", build, root, variables);
    const targets = this.offer.targets ?? [];
    if (!targets.length && !this.offer.site) return;
    await this.own("pack", async () => {
      const found = OUTPUTS.find((folder) => has(`${folder}/index.html`)) ?? (build ? "dist" : ".");
      const output = path.join(root, settings.output || found);
      if (!fs.existsSync(path.join(output, "index.html"))) throw new Error(`there is no ${settings.output || found}/index.html`);
      this.artifact = pack(output, this.folder);
      this.record({ type: "notice", level: "info", message: `packed ${this.artifact.files} files` });
    });
  }

  base() {
    const { build, attempt, project, ref, context, environment_name, url } = this.offer;
    const cache = { npm_config_cache: this.file("npm"), npm_config_update_notifier: "false" };
    const quiet = { npm_config_fund: "false", npm_config_audit: "false" };
    const said = { BUILD: build, ATTEMPT: attempt, PROJECT: project, REF: ref, CONTEXT: context ?? "preview" };
    Object.assign(said, { ENVIRONMENT: environment_name || said.CONTEXT, URL: url, COMMIT: this.commit?.commit });
    const known = Object.entries(said).filter(([, value]) => value);
    const ours = Object.fromEntries(known.map(([name, value]) => [`TWISTEDIPC_${name}`, String(value)]));
    const places = { PATH: process.env.PATH, HOME: this.file("home"), TMPDIR: this.file("tmp") };
    const always = { LANG: "C.UTF-8", TERM: "xterm-256color", CI: "true", FORCE_COLOR: "1" };
    return { ...places, ...always, ...cache, ...quiet, ...ours };
  }

  async checkout(work) {
    const { repository, ref, commit, head } = this.offer;
    const environment = { ...this.base(), GIT_TERMINAL_PROMPT: "0", GIT_CONFIG_NOSYSTEM: "1" };
    const git = (...words) => this.spawn(["git", ...words], this.folder, environment);
    const run = promisify(execFile);
    const ask = async (...words) => (await run("git", ["-C", work, ...words], { env: environment })).stdout.trim();
    await git("clone", "--quiet", "--no-checkout", "--", repository, work);
    if (commit) await git("-C", work, "checkout", "--quiet", "--detach", commit);
    else {
      await git("-C", work, "fetch", "--quiet", "--", "origin", ref);
      this.resolved = Date.now();
      await git("-C", work, "checkout", "--quiet", "--detach", "FETCH_HEAD");
    }
    const [id, subject, author, author_email] = (await ask("log", "-1", "--format=%H%n%s%n%an%n%ae")).split("\n");
    this.commit = { commit: id, subject, author, author_email };
    if (head) this.commit.head = (await ask("symbolic-ref", "refs/remotes/origin/HEAD")).slice("refs/remotes/origin/".length);
    this.record(`${id} ${subject}`);
  }

  own(name, work) {
    return this.during(name, "", work);
  }

  command(name, command, folder, environment) {
    return this.during(name, command, () => this.spawn(["sh", "-c", `exec 2>&1\n${command}`], folder, environment));
  }

  /** One step: its events in the log, and an entry in the result. */
  async during(name, command, work) {
    const index = ++this.step;
    const started = Date.now();
    this.record({ type: "step_started", index, name, command });
    let [outcome, exit, failure] = ["succeeded", {}, null];
    try {
      await work();
      if (command) exit = { exit_code: 0 };
    } catch (error) {
      failure = this.ending ?? error;
      outcome = failure.outcome ?? "failed";
      if (error.exit !== undefined) exit = { exit_code: error.exit };
      if (!command) this.record({ type: "notice", level: "error", message: this.hide(error.message) });
    }
    const ended = Date.now();
    this.record({ type: "step_ended", index, outcome, milliseconds: ended - started, ...exit });
    this.steps.push({ index, name, command, outcome, started, ended, ...exit });
    if (failure) throw failure.outcome ? failure : new Ended("failed", `step ${name}: ${failure.message}`);
  }

  /** Run a program in a group of its own, and its output into the log. */
  spawn([program, ...words], cwd, env) {
    if (this.ending) return Promise.reject(this.ending);
    return new Promise((resolve, reject) => {
      const child = spawn(program, words, { cwd, env, detached: true, stdio: ["ignore", "pipe", "pipe"] });
      this.child = child;
      for (const stream of [child.stdout, child.stderr]) {
        const decoder = new StringDecoder("utf8");
        let line = "";
        const more = (text) => {
          const lines = (line + text).split("\n");
          line = lines.pop();
          for (const each of lines) this.line(each);
          this.silence();
        };
        stream.on("data", (data) => more(decoder.write(data)));
        stream.on("end", () => (more(decoder.end()), line && this.line(line)));
      }
      this.silence();
      child.on("exit", () => this.kill("SIGKILL")); // what it has left running
      child.on("error", reject);
      child.on("close", (code, signal) => {
        this.child = null;
        const exit = code ?? 128 + (os.constants.signals[signal]);
        const what = program === "sh" ? words[1].slice("exec 2>&1\n".length) : program;
        if (exit === 0) resolve();
        else reject(Object.assign(new Error(`${what} ended with exit code ${exit}`), { exit }));
      });
    });
  }

  /** A line, in fragments of 4096 characters at most if it is longer than 16 KiB. */
  line(text) {
    let rest = this.hide(text);
    while (Buffer.byteLength(rest) > 16 * 1024) {
      const at = rest.charCodeAt(4095) >>> 10 === 0x36 ? 4095 : 4096; // not between the halves of a pair
      this.record(rest.slice(0, at), true);
      rest = rest.slice(at);
    }
    this.record(rest);
  }

  silence() {
    clearTimeout(this.idle);
    const stop = () => this.stop("timed_out", "the build was silent for too long");
    this.idle = setTimeout(stop, this.offer.idle_timeout * 1000);
  }

  stop(outcome, reason) {
    if (this.result || this.ending) return;
    this.ending = new Ended(outcome, reason);
    this.kill("SIGTERM");
    setTimeout(() => this.kill("SIGKILL"), 10_000).unref();
    if (!this.begun) this.run();
  }

  kill(signal) {
    try {
      if (this.child) process.kill(-this.child.pid, signal);
    } catch {} // nothing is left of it
  }

  forget() {
    shared.attempts.delete(key(this.about));
    this.forgotten = true;
    this.ending ??= new Ended("cancelled", "the lease is over");
    this.kill("SIGKILL");
    fs.rmSync(this.folder, { recursive: true, force: true });
  }
}

export const key = ({ attempt, lease }) => `${attempt} ${lease}`;

/** One HTTP request; refused unless its status is 2xx. */
function request(url, method, headers, body) {
  return new Promise((resolve, reject) => {
    const { request: ask } = url.protocol === "https:" ? https : http;
    const asked = ask(url, { method, headers, timeout: 60_000 }, (answer) => {
      answer.resume();
      const failed = new Error(`${method}: status ${answer.statusCode}`);
      answer.on("end", () => (answer.statusCode < 300 ? resolve(answer) : reject(failed)));
    });
    asked.on("timeout", () => asked.destroy(new Error("no answer")));
    asked.on("error", reject);
    asked.end(body);
  });
}

