"use strict";
(() => {
  const root = document.documentElement;
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];
  const on = (id, action) => document.getElementById(id)?.addEventListener("click", action);

  on("language", () => { root.lang = root.lang === "zh" ? "en" : "zh"; });
  on("theme", () => {
    const dark = root.style.colorScheme === "dark"
      || (!root.style.colorScheme && matchMedia("(prefers-color-scheme: dark)").matches);
    root.style.colorScheme = dark ? "light" : "dark";
  });

  const filters = all("[data-show]");
  for (const filter of filters) {
    filter.addEventListener("click", () => {
      for (const other of filters) other.setAttribute("aria-pressed", String(other === filter));
      for (const finding of all(".finding")) {
        finding.hidden = Boolean(filter.dataset.show) && finding.dataset.severity !== filter.dataset.show;
      }
    });
  }

  const articles = all("article");
  const links = all("nav a");
  let current = 0;
  const show = (index, scroll) => {
    current = Math.min(Math.max(index, 0), articles.length - 1);
    articles.forEach((article, n) => { article.hidden = n !== current; });
    links.forEach((link, n) => {
      if (n === current) link.setAttribute("aria-current", "true");
      else link.removeAttribute("aria-current");
    });
    const list = links[current].parentElement;
    list.scrollTop = links[current].offsetTop - list.offsetTop - list.clientHeight / 2;
    list.scrollLeft = links[current].offsetLeft - list.offsetLeft - list.clientWidth / 2;
    if (scroll) document.getElementById("samples").scrollIntoView();
  };
  const follow = (scroll) => {
    const index = articles.findIndex((article) => `#${article.id}` === location.hash);
    show(index < 0 ? current : index, scroll && index >= 0);
  };
  if (articles.length) {
    for (const link of all('a[href^="#row-"]')) {
      link.addEventListener("click", (event) => {
        event.preventDefault();
        history.replaceState(null, "", link.getAttribute("href"));
        follow(!link.closest("nav"));
      });
    }
    on("previous", () => show(current - 1, false));
    on("next", () => show(current + 1, false));
    follow(true);
  }

  for (const article of articles) {
    const tabs = all("[data-tab]", article);
    const passages = all(".passage", article);
    const choose = (chosen) => {
      tabs.forEach((tab, n) => tab.setAttribute("aria-selected", String(n === chosen)));
      passages.forEach((passage, n) => { passage.hidden = n !== chosen; });
    };
    tabs.forEach((tab, n) => tab.addEventListener("click", () => choose(n)));
    if (tabs.length) choose(0);
  }

  const tip = document.getElementById("tip");
  const [id, weight] = all("b", tip);
  const text = tip.querySelector("code");
  document.addEventListener("pointerover", (event) => {
    const token = event.target instanceof Element ? event.target.closest(".tokens i") : null;
    tip.hidden = token === null;
    if (token === null) return;
    id.textContent = `${id.dataset[root.lang]} ${token.dataset.i}`;
    weight.textContent = `${weight.dataset[root.lang]} ${token.dataset.w}`;
    text.textContent = JSON.stringify(token.textContent);
    const box = token.getBoundingClientRect();
    tip.style.left = `${Math.max(8, Math.min(box.left, innerWidth - tip.offsetWidth - 8))}px`;
    tip.style.top = `${box.top > 60 ? box.top - tip.offsetHeight - 6 : box.bottom + 6}px`;
  });
})();
