/** Elements by their id, and new ones. */

export const byId = (id) => document.getElementById(id);

/** An element with properties; `class`, `aria-…` and others with a hyphen are attributes. */
export function element(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name in made) made[name] = value;
    else made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
}

/** A copy of a drawing of index.html. */
export const icon = (name) => byId(`icon-${name}`).content.firstElementChild.cloneNode(true);

/** Let a link save what `find` asynchronously returns as an address; null saves nothing. */
export function saveWhenFound(link, find) {
  link.addEventListener("click", async (event) => {
    if (event.defaultPrevented) return;
    event.preventDefault();
    const { download } = link;
    const href = await find();
    if (href) element("a", { href, download }).click();
  });
}

/** Set a text only where it changes, so that nothing is laid out or read out anew. */
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}
