/** Markup and style of <before-after>. */
export const MARKUP = `
<div id="root" role="group" aria-label="Comparison">
  <div id="stage">
    <div id="board"></div>
    <div id="before" class="layer"></div>
    <div id="after" class="layer"></div>
    <span id="beforeLabel" class="label"></span>
    <span id="afterLabel" class="label"></span>
    <input id="divider" type="range" min="0" max="100" step="1">
    <div id="handle"><div id="grip"><svg viewBox="0 0 24 24" aria-hidden="true"><path d="M9 7l-5 5 5 5M15 7l5 5-5 5"/></svg></div></div>
    <p id="failure" role="status" hidden></p>
  </div>
  <div id="bar">
    <slot name="start"></slot>
    <div class="group">
      <button id="smaller" type="button" aria-label="Smaller" title="Smaller (-)">
        <svg viewBox="0 0 24 24" aria-hidden="true"><path d="M5 12h14"/></svg></button>
      <output id="factor" aria-live="off"></output>
      <button id="larger" type="button" aria-label="Larger" title="Larger (+)">
        <svg viewBox="0 0 24 24" aria-hidden="true"><path d="M5 12h14M12 5v14"/></svg></button>
    </div>
    <button id="all" type="button" title="Show the whole picture (0)">Fit</button>
    <button id="actual" type="button" title="Show at actual size (1)">1:1</button>
    <button id="hold" type="button" aria-label="Hold to see the original" title="Hold to see the original (O)">
      <svg viewBox="0 0 24 24" aria-hidden="true"><path d="M2.5 12S6 5.5 12 5.5 21.5 12 21.5 12 18 18.5 12 18.5 2.5 12 2.5 12z"/><circle cx="12" cy="12" r="2.8"/></svg>
      <span>Original</span></button>
    <button id="full" type="button" aria-label="Full screen" title="Full screen (F)">
      <svg viewBox="0 0 24 24" aria-hidden="true"><path d="M4 9V4h5M15 4h5v5M20 15v5h-5M9 20H4v-5"/></svg></button>
    <slot name="end"></slot>
    <span id="busy" hidden>loading full size…</span>
  </div>
</div>`;

export const STYLE = `
:host {
  --stage: #161617; --accent: #f2b35e; display: block; height: 100%; min-height: 12rem; color: #ececee;
  background: var(--stage); font: 500 .8125rem/1.3 system-ui, sans-serif; -webkit-tap-highlight-color: transparent;
}
:host([hidden]), :host([plain]) #bar { display: none; }
* { box-sizing: border-box; }
[hidden] { display: none !important; }
#root { height: 100%; display: flex; flex-direction: column; }
#stage {
  position: relative; flex: 1; min-height: 0; overflow: hidden; direction: ltr; cursor: ew-resize; touch-action: pan-y;
  user-select: none; -webkit-user-select: none;
}
.enlarged #stage { cursor: grab; touch-action: none; }
.enlarged #stage:active { cursor: grabbing; }
.alone:not(.enlarged) #stage { cursor: default; }
.layer, #board { position: absolute; inset: 0; pointer-events: none; }
#board { inset: 0 auto auto 0; }
.layer img, #board { transform-origin: 0 0; }
.layer img { position: absolute; top: 0; left: 0; max-width: none; object-fit: fill; -webkit-user-drag: none; }
.layer.cover img { object-fit: cover; }
.pixels .layer img { image-rendering: pixelated; }
#board { background: repeating-conic-gradient(#8c8c8e 0 25%, #737375 0 50%) 0 0 / calc(2 * var(--square, 8px)) calc(2 * var(--square, 8px)); }
.original #after, .loading .layer, .loading #board { visibility: hidden; }
.label {
  position: absolute; top: 0; margin: .75rem; padding: .25rem .65rem; border-radius: 99px; background: #101011c8; color: #fff;
  pointer-events: none; transition: opacity .15s;
}
#beforeLabel { left: 0; }
#afterLabel { right: 0; }
.label.covered, .loading .label, .alone #afterLabel { opacity: 0; }
#divider {
  position: absolute; inset: 0; width: 100%; height: 100%; margin: 0; opacity: 0; pointer-events: none; appearance: none;
}
#handle {
  position: absolute; top: 0; left: -1px; width: 2px; background: #fff; box-shadow: 0 0 0 .5px #0006, 0 0 6px #0007;
  pointer-events: none;
}
#grip {
  position: absolute; top: 50%; left: 50%; width: 2.75rem; height: 2.75rem; transform: translate(-50%, -50%); display: grid;
  place-items: center; border-radius: 50%; background: #fffffff0; color: #222; box-shadow: 0 1px 6px #0008; cursor: ew-resize;
  pointer-events: auto; touch-action: none;
}
#divider:focus-visible ~ #handle #grip { outline: 3px solid var(--accent); outline-offset: 3px; }
.original #handle, .alone #handle, .loading #handle { display: none; }
svg { pointer-events: none; width: 1.25rem; height: 1.25rem; fill: none; stroke: currentColor; stroke-width: 1.75; stroke-linecap: round; stroke-linejoin: round; }
#failure { position: absolute; inset: auto 1rem 1rem; margin: 0; padding: .6rem .9rem; border-radius: .5rem; background: #101011e0; text-align: center; }
#bar {
  display: flex; flex-wrap: wrap; align-items: center; justify-content: center; gap: .25rem; min-height: 3.25rem; padding: .25rem .5rem;
  padding-bottom: max(.25rem, env(safe-area-inset-bottom)); position: relative;
}
.group { display: flex; align-items: center; }
button, ::slotted(button), ::slotted(a) {
  display: inline-flex; align-items: center; justify-content: center; gap: .4rem; min-width: 2.75rem; height: 2.75rem; padding: 0 .6rem;
  border: 0; border-radius: .6rem; background: none; color: inherit; font: inherit; cursor: pointer; touch-action: manipulation;
}
button[aria-disabled="true"] { opacity: .35; cursor: default; }
button[aria-pressed="true"] { background: #ffffff24; }
@media (hover: hover) { button:hover:not([aria-disabled="true"]) { background: #ffffff1c; } }
button:focus-visible { outline: 2px solid var(--accent); outline-offset: -2px; }
#hold { touch-action: none; user-select: none; -webkit-user-select: none; }
#factor { min-width: 3.4rem; text-align: center; font-variant-numeric: tabular-nums; }
#busy { position: absolute; bottom: 100%; left: 50%; transform: translate(-50%, -.5rem); padding: .25rem .65rem; border-radius: 99px; background: #101011c8; white-space: nowrap; }
#root.alone #hold { display: none; }
@media (max-width: 30rem) { #hold span { display: none; } #bar { gap: 0; } button { padding: 0 .4rem; } }
@media (prefers-reduced-motion: reduce) { .label { transition: none; } }
@media (forced-colors: active) { #handle { background: CanvasText; } #grip { border: 2px solid ButtonText; } }
`;
