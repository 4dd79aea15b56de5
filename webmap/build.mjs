// Builds viewer/vendor/map: one script, the coast lines, and the licences of what is in them.
// The first line of the script names the digest of the sources, so that a test can tell whether
// it was made from them.
import { createHash } from "node:crypto";
import { copyFileSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { build } from "esbuild";

const out = process.argv[2] ?? "../viewer/vendor/map";
const sources = ["build.mjs", "package.json", "package-lock.json", "tsconfig.json"].concat(
  readdirSync("src").sort().map((name) => `src/${name}`),
);
const digest = createHash("sha256");
for (const name of sources) {
  digest.update(name).update("\0").update(readFileSync(name)).update("\0");
}

mkdirSync(out, { recursive: true });
const made = await build({
  entryPoints: ["src/index.ts"],
  bundle: true,
  minify: true,
  format: "esm",
  target: "es2022",
  charset: "utf8",
  legalComments: "none",
  loader: { ".css": "text" },
  banner: { js: `/* Made from webmap, ${digest.digest("hex")}; see LICENSE. */` },
  metafile: true,
  outfile: `${out}/map.js`,
});

const packages = new Set(
  Object.keys(made.metafile.inputs)
    .map((path) => /node_modules\/((?:@[^/]+\/)?[^/]+)\//.exec(path)?.[1])
    .filter(Boolean),
);
packages.add("world-atlas");
const texts = [...packages].sort().map((name) => {
  const folder = `node_modules/${name}`;
  const file = readdirSync(folder).find((entry) => /^licen[cs]e/i.test(entry));
  const about = JSON.parse(readFileSync(`${folder}/package.json`, "utf8"));
  const text = file ? readFileSync(`${folder}/${file}`, "utf8").trim() : about.license;
  return `${name} ${about.version} (${about.license})\n\n${text}\n`;
});
texts.push("Coast lines: Natural Earth 1:50m, public domain.\n");
writeFileSync(`${out}/LICENSE`, texts.join("\n" + "-".repeat(80) + "\n\n"));
copyFileSync("node_modules/world-atlas/land-50m.json", `${out}/land-50m.json`);
