/* The merchant's tag. Moves the click id from the URL into the cookie _lc_<program>, out of the address bar.
   lastcookie("sale", {order_id, amount, currency}) reports with that click id; without one, too.
   Attributes: data-program, data-param (click_id), data-days (30), data-domain (this host alone).
   Programs on one page need a data-param each: a click id does not show whose it is. */
(() => {
  "use strict";
  const shape = /^[\w-]{32}$/;
  const earlier = window.lastcookie; // the snippet's queue, or another run of this file

  // The page goes on, whatever happens.
  const quietly = run => (...values) => { try { run(...values); } catch {} };

  // The click ids of one name.
  const idsIn = (pairs, name) => pairs.filter(pair => pair.startsWith(name + "="))
    .map(pair => pair.slice(name.length + 1)).filter(value => shape.test(value));
  const stored = program => {
    try { return idsIn(document.cookie.split("; "), "_lc_" + program)[0]; } catch {} // a sandboxed frame
  };

  // Other parameters and the fragment keep their bytes.
  const parts = url => /^([^?#]*)\??([^#]*)(.*)$/.exec(url).slice(1);

  const register = quietly(script => {
    const { program, param = "click_id", days = 30, domain } = script.dataset;
    if (report.tags.has(program)) return;
    const [id] = idsIn(parts(report.landed)[1].split("&"), param);
    report.tags.set(program, { id, url: new URL("/v1/events", script.src).href });
    if (!id || !program) return;
    document.cookie = `_lc_${program}=${id}; Path=/; SameSite=Lax; Max-Age=${days * 86400}` +
      (domain ? "; Domain=" + domain : "") + (location.protocol == "https:" ? "; Secure" : "");
    if (stored(program) != id) return; // without cookies only the URL keeps it
    const [path, query, fragment] = parts(location.href);
    const rest = query.split("&").filter(pair => !idsIn([pair], param)[0]).join("&");
    history.replaceState(history.state, "", path + (rest && "?" + rest) + fragment);
  });

  const report = earlier?.tags ? earlier : quietly((goal, sale) => {
    const [[first, tag]] = report.tags;
    const body = Object.assign({ program: first, goal }, sale);
    const { id, url } = report.tags.get(body.program) || { url: tag.url };
    body.click_id = body.click_id || id || stored(body.program);
    const text = JSON.stringify(body, (key, value) => // amounts in decimal: 0.1 + 0.2 is 0.3
      typeof value == "number" && key != "quantity" ? String(+value.toFixed(4)) : value);
    // As text/plain, which needs no preflight.
    if (navigator.sendBeacon?.(url, text)) return;
    fetch(url, { method: "POST", body: text, keepalive: true, mode: "no-cors", credentials: "include" })
      .catch(() => {});
  });
  window.lastcookie = report;
  report.landed = report.landed || location.href;
  report.tags = report.tags || new Map();
  const scripts = document.querySelectorAll('script[data-program][src*="/tag.js"]');
  [...scripts, document.currentScript].forEach(register);
  if (report != earlier) earlier?.q?.forEach(call => report(...call));
})();
