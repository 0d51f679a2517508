// A folder as an archive: docs/protocol.md, "The archive".
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { cpSync, mkdirSync, readFileSync, readdirSync, rmSync, statSync, writeFileSync } from "node:fs";
import path from "node:path";

const sha256 = (data) => createHash("sha256").update(data).digest("hex");

/** Pack a folder into FOLDER/site.tar.gz; what the result says of it. */
export function pack(output, folder) {
  const files = [];
  const top = path.join(folder, "pack", "files");
  mkdirSync(top, { recursive: true });
  const shown = (source) => !path.relative(output, source).split(path.sep).some((part) => part.startsWith("."));
  cpSync(output, top, { recursive: true, dereference: true, filter: shown }); // hidden names aren't released
  for (const entry of readdirSync(top, { recursive: true })) {
    const status = statSync(path.join(top, entry));
    if (!status.isFile()) continue;
    const mode = status.mode & 0o100 ? 0o755 : 0o644;
    const content = readFileSync(path.join(top, entry));
    files.push({ path: entry.split(path.sep).join("/"), size: content.length, sha256: sha256(content), mode });
  }
  files.sort((a, b) => Buffer.compare(Buffer.from(a.path), Buffer.from(b.path)));
  writeFileSync(path.join(folder, "pack", "manifest.json"), JSON.stringify({ format: 1, files }));
  const archive = path.join(folder, "site.tar.gz");
  execFileSync("tar", ["-czf", archive, "-C", path.join(folder, "pack"), "manifest.json", "files"]);
  rmSync(path.join(folder, "pack"), { recursive: true });
  const packed = readFileSync(archive);
  const unpacked = files.reduce((sum, file) => sum + file.size, 0);
  return { size: packed.length, sha256: sha256(packed), files: files.length, unpacked };
}
