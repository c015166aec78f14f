"use strict";
(() => {
  const steps = JSON.parse(document.getElementById("trace").textContent).steps;
  if (!steps.length) return;
  const root = document.documentElement;
  const at = (id) => document.getElementById(id);
  const links = [...document.querySelectorAll("#rungs a[data-step]")];
  const bodies = [...document.querySelectorAll("#process tbody.step")];
  const rows = [...document.querySelectorAll("#tracker tbody tr")];
  const cells = [...document.querySelectorAll("#now > div")];
  const tip = at("tip");
  let now = -1;
  root.classList.add("js");

  const isSeen = (element) => {
    const box = element.getBoundingClientRect();
    return box.bottom > 0 && box.top < innerHeight;
  };

  function mark(elements, index) {
    elements.forEach((element, place) => element.classList.toggle("current", place === index));
  }

  function follow(index) {
    const behavior = matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth";
    const rungs = at("rungs");
    if (rungs.scrollHeight > rungs.clientHeight + 1 && getComputedStyle(rungs).overflowY === "auto") {
      // the ladder scrolls inside; only the table moves the page
      const off = links[index].getBoundingClientRect().top - rungs.getBoundingClientRect().top;
      rungs.scrollTo({ top: rungs.scrollTop + off - rungs.clientHeight / 2, behavior });
      bodies[index].scrollIntoView({ block: "nearest", behavior });
    } else if (matchMedia("(min-width: 1000px)").matches) {
      bodies[index].scrollIntoView({ block: "nearest", behavior });
    } else {
      // one column: follow where the reader is
      const target = isSeen(rungs) ? links[index] : isSeen(at("tracker")) ? rows[index] : bodies[index];
      target.scrollIntoView({ block: "nearest", behavior });
    }
  }

  function show(index, { quietly = false } = {}) {
    const next = Math.max(0, Math.min(steps.length - 1, index));
    if (next === now) return;
    now = next;
    const step = steps[now];
    mark(links, now);
    mark(bodies, now);
    mark(rows, now);
    links.forEach((link, place) => {
      link.setAttribute("tabindex", place === now ? "0" : "-1");
      if (place === now) link.setAttribute("aria-current", "step");
      else link.removeAttribute("aria-current");
    });
    const before = now ? steps[now - 1].state : step.state;
    const news = [];
    cells.forEach((cell, place) => {
      const isNew = before[place] !== step.state[place];
      if (isNew) news.push(`${cell.querySelector("dt").textContent} ${step.state[place]}`);
      cell.querySelector("dd").textContent = step.state[place];
      cell.classList.toggle("new", isNew);
      cell.classList.toggle("refused", step.state[place] === "refused");
    });
    at("news").textContent = news.length ? `now true: ${news.join(" · ")}` : "";
    at("now-head").textContent = `What is true after step ${now + 1}`;
    at("at").textContent = `${now + 1} of ${steps.length} · ${step.message}`;
    at("at").setAttribute("href", `#step-${now + 1}`);
    for (const [id, is] of [["first", now === 0], ["back", now === 0], ["forward", now === steps.length - 1],
      ["last", now === steps.length - 1]]) at(id).setAttribute("aria-disabled", String(is));
    if (quietly) return;
    at("live").textContent = news.length ? `${step.spoken} Now true: ${news.join(", ")}.` : step.spoken;
    follow(now);
    if (links.includes(document.activeElement)) links[now].focus({ preventScroll: true });
  }

  at("first").addEventListener("click", () => show(0));
  at("back").addEventListener("click", () => show(now - 1));
  at("forward").addEventListener("click", () => show(now + 1));
  at("last").addEventListener("click", () => show(steps.length - 1));

  document.addEventListener("keydown", (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey || event.shiftKey) return;
    const inLadder = links.includes(document.activeElement);
    const goal = { ArrowRight: now + 1, ArrowLeft: now - 1, Home: 0, End: steps.length - 1 };
    if (inLadder) Object.assign(goal, { ArrowDown: now + 1, ArrowUp: now - 1 });
    if (event.key === "Escape") tip.hidden = true;
    else if (event.key in goal) {
      event.preventDefault();
      show(goal[event.key]);
    }
  });

  document.addEventListener("click", (event) => {
    const link = event.target.closest("a[data-step]");
    const body = event.target.closest("#process tbody.step");
    const row = event.target.closest("#tracker tbody tr");
    if (link) event.preventDefault();
    const number = (link || body || row)?.getAttribute("data-step");
    if (number && !String(getSelection())) show(Number(number) - 1);
  });

  function named() {
    const number = /^#step-(\d+)$/.exec(location.hash)?.[1];
    return number ? Number(number) - 1 : -1;
  }
  addEventListener("hashchange", () => {
    if (named() >= 0) show(named());
  });

  // --- bytes and fields on hover and on focus

  let told = null; // the link that the tip is about
  let pointer = ""; // where the mouse was last seen to be

  function tell(link) {
    told = link;
    const number = link.getAttribute("data-step");
    const step = steps[number - 1];
    const head = document.createElement("p");
    const name = document.createElement("strong");
    name.textContent = step.message;
    head.append(name, ` · ${step.line}`);
    const says = document.createElement("p");
    says.textContent = step.says;
    tip.replaceChildren(head, says);
    const fields = bodies[number - 1].querySelector(".fields");
    if (fields) tip.append(fields.cloneNode(true));
    tip.hidden = false;
    const by = link.getBoundingClientRect();
    const own = tip.getBoundingClientRect();
    const wide = root.clientWidth;
    const beside = by.right + own.width + 12 < wide;
    const left = beside ? by.right + 8 : Math.max(8, Math.min(by.left, wide - own.width - 8));
    const below = by.bottom + own.height + 8 < innerHeight;
    const top = beside ? by.top : below ? by.bottom + 6 : by.top - own.height - 6;
    tip.style.left = `${left}px`;
    tip.style.top = `${Math.max(8, Math.min(top, innerHeight - own.height - 8))}px`;
    link.setAttribute("aria-describedby", "tip");
  }
  function hush(link) {
    if (link === told) tip.hidden = true;
    link.removeAttribute("aria-describedby");
  }
  for (const link of document.querySelectorAll("#rungs a[data-step], #process a[data-step]")) {
    link.addEventListener("pointerenter", (event) => {
      // a link that was scrolled under a resting mouse was not pointed at
      if (event.pointerType === "mouse" && `${event.clientX} ${event.clientY}` !== pointer) tell(link);
    });
    const isFocused = () => link.matches(":focus-visible");
    link.addEventListener("pointerleave", () => isFocused() || hush(link));
    link.addEventListener("focus", () => isFocused() && tell(link));
    link.addEventListener("blur", () => hush(link));
  }
  addEventListener("pointermove", (event) => {
    pointer = `${event.clientX} ${event.clientY}`;
  }, { passive: true });
  addEventListener("scroll", () => {
    if (tip.hidden) return;
    const link = document.activeElement;
    if (link.getAttribute("aria-describedby") === "tip") tell(link);
    else tip.hidden = true;
  }, { passive: true, capture: true });

  const wanted = named();
  show(wanted >= 0 ? wanted : 0, { quietly: wanted < 0 });
})();
