// The layout: named segments, painted on a square of cells; every cell belongs to one segment or to none.
(() => {
  const simat = (window.simat = window.simat || {});
  const SIDE = 128, MOST = 6;
  const NONE = 0;

  // Runs of cells, row by row: how many in base 36, then which segment as a letter (A is none).
  const encode = (cells) => {
    let text = "";
    for (let start = 0; start < cells.length;) {
      let end = start + 1;
      while (end < cells.length && cells[end] === cells[start]) end++;
      text += (end - start).toString(36) + String.fromCharCode(65 + cells[start]);
      start = end;
    }
    return text;
  };
  const decode = (text) => {
    const cells = new Uint8Array(SIDE * SIDE);
    let place = 0;
    for (const [, count, letter] of (text || "").matchAll(/([0-9a-z]+)([A-Z])/g)) {
      const end = Math.min(cells.length, place + parseInt(count, 36));
      cells.fill(letter.charCodeAt(0) - 65, place, end);
      place = end;
    }
    return cells;
  };

  simat.layout = (element, props, watch) => {
    const colours = JSON.parse(element.querySelector(".layout").dataset.colours), board = element.querySelector("canvas"), list = element.querySelector(".names");
    const context = board.getContext("2d"), small = document.createElement("canvas");
    small.width = small.height = SIDE;
    let cells = new Uint8Array(SIDE * SIDE), words = [""], chosen = 0, tool = "brush", size = 14;
    let past = [], from = null, last = null, cursor = null, sent = "";

    const paper = () => getComputedStyle(element).getPropertyValue("--s-board").trim() || "#e8e6e2";
    const rgb = (number) => colours[number % colours.length];
    const at = (event) => {
      const box = board.getBoundingClientRect();
      return [((event.clientX - box.left) / box.width) * SIDE, ((event.clientY - box.top) / box.height) * SIDE];
    };
    const colour = () => (tool === "erase" ? NONE : chosen + 1);

    // -- painting on cells
    const disc = (x, y) => {
      const radius = size / 2;
      for (let row = Math.max(0, Math.floor(y - radius)); row <= Math.min(SIDE - 1, Math.ceil(y + radius)); row++)
        for (let column = Math.max(0, Math.floor(x - radius)); column <= Math.min(SIDE - 1, Math.ceil(x + radius)); column++)
          if ((column + 0.5 - x) ** 2 + (row + 0.5 - y) ** 2 <= radius * radius) cells[row * SIDE + column] = colour();
    };
    const line = ([x0, y0], [x1, y1]) => {
      const steps = Math.max(1, Math.ceil(Math.hypot(x1 - x0, y1 - y0)));
      for (let i = 0; i <= steps; i++) disc(x0 + ((x1 - x0) * i) / steps, y0 + ((y1 - y0) * i) / steps);
    };
    const box = ([x0, y0], [x1, y1]) => {
      const [left, right] = [Math.min(x0, x1), Math.max(x0, x1)].map((v) => Math.max(0, Math.min(SIDE, Math.round(v))));
      const [top, bottom] = [Math.min(y0, y1), Math.max(y0, y1)].map((v) => Math.max(0, Math.min(SIDE, Math.round(v))));
      for (let row = top; row < bottom; row++) cells.fill(colour(), row * SIDE + left, row * SIDE + right);
    };

    // -- showing
    const names = () => {
      const sums = {};
      cells.forEach((cell, place) => {
        if (!cell) return;
        const sum = (sums[cell] ||= [0, 0, 0]);
        sum[0] += place % SIDE; sum[1] += Math.floor(place / SIDE); sum[2]++;
      });
      const scale = board.width / SIDE;
      context.font = `600 ${Math.round(board.width / 26)}px system-ui, sans-serif`;
      context.textAlign = "center"; context.textBaseline = "middle";
      for (const [cell, [x, y, count]] of Object.entries(sums)) {
        const text = words[cell - 1];
        if (!text || count < 60) continue;
        context.lineWidth = board.width / 110; context.lineJoin = "round";
        context.strokeStyle = "rgba(0,0,0,.55)"; context.fillStyle = "#fff";
        context.strokeText(text, (x / count + 0.5) * scale, (y / count + 0.5) * scale);
        context.fillText(text, (x / count + 0.5) * scale, (y / count + 0.5) * scale);
      }
    };
    const draw = () => {
      const flat = small.getContext("2d"), image = flat.createImageData(SIDE, SIDE);
      cells.forEach((cell, place) => {
        if (!cell) return;
        const [r, g, b] = rgb(cell - 1);
        image.data.set([r, g, b, 255], place * 4);
      });
      flat.putImageData(image, 0, 0);
      context.fillStyle = paper();
      context.fillRect(0, 0, board.width, board.height);
      context.imageSmoothingEnabled = true; context.imageSmoothingQuality = "high";
      context.drawImage(small, 0, 0, board.width, board.height);
      names();
      element.querySelector(".hint").hidden = cells.some(Boolean) || document.activeElement === board;
      if (!cursor || document.activeElement !== board) return;
      const scale = board.width / SIDE;
      context.beginPath();
      context.arc(cursor[0] * scale, cursor[1] * scale, (tool === "box" ? 3 : size / 2) * scale, 0, 7);
      context.lineWidth = 4; context.strokeStyle = "#fff"; context.stroke();
      context.lineWidth = 2; context.strokeStyle = "#222"; context.stroke();
    };
    const row = (number) => {
      const item = document.createElement("li");
      item.dataset.chosen = String(number === chosen);
      item.innerHTML = '<button type="button" class="dot"></button><input type="text" maxlength="80" placeholder="a word of the text">' +
        '<button type="button" class="remove">×</button>';
      const [dot, remove] = item.querySelectorAll("button"), field = item.querySelector("input");
      dot.style.background = `rgb(${rgb(number)})`;
      dot.setAttribute("aria-label", `Paint segment ${number + 1}`);
      dot.setAttribute("aria-pressed", String(number === chosen));
      field.value = words[number];
      field.setAttribute("aria-label", `Words of segment ${number + 1}`);
      remove.setAttribute("aria-label", `Remove segment ${number + 1}`);
      remove.hidden = words.length === 1;
      const choose = () => { chosen = number; if (tool === "erase") pick("brush"); mark(); };
      dot.addEventListener("click", choose);
      field.addEventListener("focus", choose);
      field.addEventListener("input", () => { words[number] = field.value; draw(); });
      field.addEventListener("change", tell);
      remove.addEventListener("click", () => {
        keep();
        words.splice(number, 1);
        cells = cells.map((cell) => (cell === number + 1 ? NONE : cell > number + 1 ? cell - 1 : cell));
        chosen = Math.min(chosen, words.length - 1);
        show(); tell();
      });
      return item;
    };
    const mark = () => [...list.children].forEach((item, number) => {
      item.dataset.chosen = String(number === chosen);
      item.querySelector(".dot").setAttribute("aria-pressed", String(number === chosen));
    });
    const show = () => {
      list.replaceChildren(...words.map((_, number) => row(number)));
      element.querySelector(".add").disabled = words.length >= MOST;
      draw();
    };
    const pick = (name) => {
      tool = name;
      for (const button of element.querySelectorAll("[data-tool]"))
        button.setAttribute("aria-pressed", String(button.dataset.tool === name));
      draw();
    };

    // -- remembering and telling
    const keep = () => { past.push([cells.slice(), [...words]]); if (past.length > 40) past.shift(); };
    const tell = () => {
      const value = { words: [...words], cells: encode(cells) };
      sent = JSON.stringify(value);
      props.value = value;
    };
    const load = () => {
      const value = props.value;
      if (!value || JSON.stringify(value) === sent) return;
      words = Array.isArray(value.words) && value.words.length ? value.words.slice(0, MOST).map(String) : [""];
      cells = decode(value.cells).map((cell) => (cell > words.length ? NONE : cell));
      chosen = 0; past = [];
      sent = JSON.stringify(value);
      show();
    };

    // -- the pointer
    board.addEventListener("pointerdown", (event) => {
      event.preventDefault();
      board.focus({ preventScroll: true });
      board.setPointerCapture(event.pointerId);
      keep();
      from = last = at(event);
      if (tool !== "box") disc(...last);
      cursor = null; draw();
    });
    board.addEventListener("pointermove", (event) => {
      if (!from) return;
      const now = at(event);
      if (tool === "box") { cells = past[past.length - 1][0].slice(); box(from, now); } else line(last, now);
      last = now; draw();
    });
    const end = () => { if (from) { from = last = null; tell(); draw(); } };
    board.addEventListener("pointerup", end);
    board.addEventListener("pointercancel", end);

    // -- the keyboard
    board.addEventListener("focus", () => { if (!from) cursor ||= [SIDE / 2, SIDE / 2]; draw(); });
    board.addEventListener("blur", () => { cursor = null; draw(); });
    board.addEventListener("keydown", (event) => {
      const step = event.shiftKey ? 1 : 5;
      const moves = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step], ArrowDown: [0, step] };
      cursor ||= [SIDE / 2, SIDE / 2];
      if (moves[event.key]) cursor = cursor.map((v, i) => Math.max(0, Math.min(SIDE, v + moves[event.key][i])));
      else if (event.key === " ") {
        keep();
        if (tool === "box") box([cursor[0] - size, cursor[1] - size], [cursor[0] + size, cursor[1] + size]);
        else disc(...cursor);
        tell();
      } else if (event.key >= "1" && event.key <= String(words.length)) { chosen = Number(event.key) - 1; mark(); }
      else if (event.key === "z" && (event.ctrlKey || event.metaKey)) undo();
      else return;
      event.preventDefault();
      draw();
    });

    // -- the buttons
    const undo = () => { if (past.length) { [cells, words] = past.pop(); chosen = Math.min(chosen, words.length - 1); show(); tell(); } };
    for (const button of element.querySelectorAll("[data-tool]")) button.addEventListener("click", () => pick(button.dataset.tool));
    element.querySelector(".size").addEventListener("input", (event) => { size = Number(event.target.value); draw(); });
    element.querySelector(".undo").addEventListener("click", undo);
    element.querySelector(".wipe").addEventListener("click", () => { keep(); cells = new Uint8Array(SIDE * SIDE); draw(); tell(); });
    element.querySelector(".add").addEventListener("click", () => {
      keep(); words.push(""); chosen = words.length - 1; if (tool === "erase") pick("brush"); show();
      list.lastElementChild.querySelector("input").focus();
    });
    new MutationObserver(draw).observe(document.body, { attributes: true, attributeFilter: ["class"] });
    watch("value", load);
    load(); show(); pick("brush");
  };
})();
