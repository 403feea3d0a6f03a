import { defineConfig } from "vitest/config";

// The names are fixed, because the agent embeds the files by name (control/src/http/assets.rs).
export default defineConfig({
  build: {
    target: "es2022",
    cssCodeSplit: false,
    modulePreload: { polyfill: false },
    assetsInlineLimit: 0,
    reportCompressedSize: true,
    rollupOptions: {
      output: { entryFileNames: "app.js", assetFileNames: "app[extname]", codeSplitting: false },
    },
  },
  server: { proxy: { "/api": "http://127.0.0.1:9480" } },
  test: { environment: "node", include: ["src/**/*.test.ts"] },
});
