// Bundles an entry file for a browser: `node bundle.mjs ENTRY OUTPUT`. Components of Vue and Svelte are compiled first.
import { readFile } from 'node:fs/promises';
import * as esbuild from 'esbuild';

const loaders = {
  async svelte(path) {
    const { compile } = await import('svelte/compiler');
    return compile(await readFile(path, 'utf8'), { filename: path, generate: 'client' }).js.code;
  },
  async vue(path) {
    const { compileScript, parse } = await import('vue/compiler-sfc');
    const { descriptor, errors } = parse(await readFile(path, 'utf8'), { filename: path });
    if (errors.length) throw errors[0];
    return compileScript(descriptor, { id: 'component', inlineTemplate: true }).content;
  },
};
const components = {
  name: 'components',
  setup(build) {
    for (const [suffix, load] of Object.entries(loaders)) {
      build.onLoad({ filter: new RegExp(`\\.${suffix}$`) }, async ({ path }) => ({ contents: await load(path) }));
    }
  },
};

const [entry, output] = process.argv.slice(2);
await esbuild.build({
  entryPoints: [entry],
  outfile: output,
  bundle: true,
  format: 'esm',
  jsx: 'automatic',
  conditions: ['svelte'],
  define: {
    'process.env.NODE_ENV': '"development"',
    __VUE_OPTIONS_API__: 'true',
    __VUE_PROD_DEVTOOLS__: 'false',
    __VUE_PROD_HYDRATION_MISMATCH_DETAILS__: 'false',
  },
  logLevel: 'error',
  plugins: [components],
});
