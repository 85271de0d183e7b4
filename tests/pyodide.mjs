// Runs pytest in Pyodide: node tests/pyodide.mjs DIRECTORY-OF-PYODIDE SITE-PACKAGES ARGUMENTS...
import path from "node:path";
import { pathToFileURL } from "node:url";

const [pyodide, site, ...args] = process.argv.slice(2);
const { loadPyodide } = await import(pathToFileURL(path.resolve(pyodide, "pyodide.mjs")));
const python = await loadPyodide();
const mounted = { "/repository": ".", "/site": site };
for (const [directory, root] of Object.entries(mounted)) {
  python.FS.mkdir(directory);
  python.FS.mount(python.FS.filesystems.NODEFS, { root: path.resolve(root) }, directory);
}
python.globals.set("args", python.toPy(args));
process.exitCode = python.runPython(`
import os, sys
os.chdir("/repository")
sys.path[:0] = ["/site", "/repository"]
sys.dont_write_bytecode = True
import pytest
int(pytest.main(args))
`);
