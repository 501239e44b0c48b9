// What the page does in the browser: pictures are picked, results become queries, the address follows the question.
(() => {
  const simat = (window.simat = window.simat || {});
  const pickers = {};
  const LARGE = 4 * 2 ** 20; // bytes from which on a picture is scaled down before it is sent
  const EDGE = 2048;

  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const one = (selector, root = document) => root.querySelector(selector);

  // ---- tabs, fields, buttons of the page -------------------------------------------------------------------------
  simat.tab = () => {
    const chosen = all('button[role="tab"]').find((b) => b.getAttribute("aria-selected") === "true");
    return chosen ? chosen.id.replace(/^tab-|-button$/g, "") : "search";
  };
  const openTab = (name) => {
    const button = document.getElementById(`tab-${name}-button`);
    if (button && button.getAttribute("aria-selected") !== "true") button.click();
  };
  const write = (id, text) => {
    const field = one(`#${id} textarea, #${id} input`);
    if (!field || field.value === text) return;
    field.value = text;
    field.dispatchEvent(new Event("input", { bubbles: true }));
  };
  const press = (id) => setTimeout(() => document.getElementById(id)?.click(), 60);
  const focus = (id) => { // at once where it is seen, else when its tab has opened
    const field = one(`#${id} textarea, #${id} input`);
    if (field?.offsetParent) field.focus();
    else setTimeout(() => one(`#${id} textarea, #${id} input`)?.focus(), 150);
  };

  // ---- results become queries ------------------------------------------------------------------------------------
  const pictureOf = (element) => {
    const { id, caption, name } = element.dataset;
    if (id !== undefined) return { id: Number(id), caption: caption || "", name: name || "" };
    const shown = one("img.made", element.closest(".stack, figure, .card"));
    return shown ? { data: shown.src, caption: caption || "", name: name || "a made picture" } : null;
  };
  const chosen = (tab, element, then, tries = 100) => {
    const picture = pictureOf(element);
    if (!picture) return;
    openTab(tab);
    const done = () => { scrollTo({ top: 0, behavior: calm() ? "auto" : "smooth" }); then(); };
    if (pickers[tab]) { pickers[tab].set(picture); done(); return; }
    let held = 0; // a tab is laid out when it is first opened, and its parts get their first values a little later
    const set = (left) => {
      if (!left || held === 4) { if (held) done(); return; }
      if (pickers[tab]?.holds(picture)) held++;
      else if (pickers[tab]) { pickers[tab].set(picture); held = 0; }
      setTimeout(() => set(left - 1), 100);
    };
    set(tries);
  };
  const act = {
    like(element) { chosen("search", element, () => { write("search-words", ""); press("search-go"); }); },
    edit(element) { chosen("edit", element, () => focus("edit-source")); },
    theme() {
      const dark = document.body.classList.toggle("dark");
      try { localStorage.setItem("simat-theme", dark ? "dark" : "light"); } catch { /* private windows */ }
    },
    async copy(element) {
      const said = element.textContent;
      try { await navigator.clipboard.writeText(location.href); element.textContent = "Copied"; }
      catch { prompt("The link to this page:", location.href); }
      setTimeout(() => { element.textContent = said; }, 1600);
    },
    say(element) {
      const { target, text } = element.dataset;
      write(target, text);
      for (const [field, words] of Object.entries(JSON.parse(element.dataset.also || "{}"))) write(field, words);
      if (element.dataset.go) press(element.dataset.go);
      else focus(target);
    },
  };
  const calm = () => matchMedia("(prefers-reduced-motion: reduce)").matches;

  document.addEventListener("click", (event) => {
    const element = event.target.closest("[data-act]");
    if (element && act[element.dataset.act]) act[element.dataset.act](element);
  });
  document.addEventListener("error", (event) => {
    if (event.target.tagName === "IMG" && event.target.closest(".card, .picker")) event.target.dataset.missing = "";
  }, true);
  document.addEventListener("load", (event) => {
    if (event.target.tagName === "IMG") delete event.target.dataset.missing;
  }, true);
  document.addEventListener("keydown", (event) => {
    if (event.key !== "/" || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target.closest("input, textarea, select, [contenteditable]")) return;
    event.preventDefault();
    openTab("search");
    focus("search-words");
  });

  // On a narrow page the answer stands below the question.
  document.addEventListener("click", (event) => {
    const go = event.target.closest("#edit-go, #draw-go");
    if (!go || innerWidth > 860) return;
    setTimeout(() => document.getElementById(go.id.replace("-go", "-out"))?.scrollIntoView({ behavior: calm() ? "auto" : "smooth" }), 250);
  });

  // ---- the address -----------------------------------------------------------------------------------------------
  simat.link = (query) => {
    const target = query ? `?${query}` : location.pathname;
    if (query === null || query === undefined || `?${query}` === location.search) return;
    history.pushState(null, "", target);
  };
  addEventListener("popstate", () => location.reload());

  // ---- pictures are picked ---------------------------------------------------------------------------------------
  const asDataUrl = (blob) => new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result);
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(blob);
  });
  const scaled = async (file) => {
    if (file.size <= LARGE) return file;
    try {
      const bitmap = await createImageBitmap(file);
      const ratio = Math.min(1, EDGE / Math.max(bitmap.width, bitmap.height));
      const canvas = document.createElement("canvas");
      canvas.width = Math.max(1, Math.round(bitmap.width * ratio));
      canvas.height = Math.max(1, Math.round(bitmap.height * ratio));
      canvas.getContext("2d").drawImage(bitmap, 0, 0, canvas.width, canvas.height);
      return await new Promise((resolve) => canvas.toBlob((blob) => resolve(blob || file), "image/jpeg", 0.92));
    } catch { return file; } // what the browser cannot read, the server may
  };

  simat.picker = (element, props, watch) => {
    const { name, limit, index: first } = one(".picker", element).dataset;
    const input = one("input", element), drop = one(".drop", element), figure = one("figure", element);
    const picture = one("img", figure), about = one("figcaption", figure), problem = one(".problem", element);
    const say = (text) => { problem.textContent = text; problem.hidden = !text; };
    const show = () => {
      const value = props.value;
      figure.hidden = !value;
      drop.hidden = Boolean(value);
      if (!value) { picture.removeAttribute("src"); input.value = ""; return; }
      const index = one("#index input")?.value || first;
      const own = `v1/images/${value.id}/thumbnail?index=${encodeURIComponent(index)}`;
      const source = value.id === undefined || value.id === null ? value.data : own;
      if (picture.getAttribute("src") !== source) picture.src = source;
      picture.alt = value.caption || value.name || "The chosen picture";
      about.textContent = value.caption || value.name || (value.data ? "your picture" : `no. ${value.id}`);
      about.title = about.textContent;
    };
    const set = (value) => { say(""); props.value = value; show(); };
    const take = async (file) => {
      if (!file) return;
      if (file.type && !file.type.startsWith("image/")) return say("That is no picture: choose a JPEG, PNG or WebP file.");
      try {
        const blob = await scaled(file);
        if (blob.size > Number(limit)) return say(`That picture is larger than ${Math.floor(Number(limit) / 2 ** 20)} MiB.`);
        set({ data: await asDataUrl(blob), name: file.name || "pasted picture" });
      } catch { say("That file cannot be read."); }
    };
    pickers[name] = { set, take, holds: (value) => !figure.hidden && props.value?.id === value.id };
    drop.addEventListener("click", () => input.click());
    input.addEventListener("change", () => take(input.files[0]));
    one(".clear", element).addEventListener("click", () => { set(null); drop.focus(); });
    for (const kind of ["dragenter", "dragover"])
      element.addEventListener(kind, (event) => { event.preventDefault(); element.dataset.over = ""; });
    for (const kind of ["dragleave", "drop"]) element.addEventListener(kind, () => delete element.dataset.over);
    element.addEventListener("drop", (event) => {
      event.preventDefault();
      take([...event.dataTransfer.files].find((file) => file.type.startsWith("image/")) || event.dataTransfer.files[0]);
    });
    watch("value", show);
    show();
  };
  document.addEventListener("paste", (event) => {
    const file = [...(event.clipboardData?.files || [])].find((each) => each.type.startsWith("image/"));
    const picker = pickers[simat.tab()];
    if (file && picker) { event.preventDefault(); picker.take(file); }
  });

  // ---- light and dark --------------------------------------------------------------------------------------------
  const theme = () => {
    let chosen = null;
    try { chosen = localStorage.getItem("simat-theme"); } catch { /* private windows */ }
    if (chosen) document.body.classList.toggle("dark", chosen === "dark");
  };
  theme();
  addEventListener("load", () => { theme(); document.documentElement.lang = "en"; });
})();
