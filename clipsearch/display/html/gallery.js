"use strict";
(() => {
  const thumbs = [...document.querySelectorAll(".thumb")];
  const byId = (id) => document.getElementById(id);
  const large = byId("large");
  const keys = byId("keys");
  let at = 0;
  let shown = 0;

  const go = (to) => {
    if (!thumbs.length) return;
    at = Math.max(0, Math.min(thumbs.length - 1, to));
    thumbs[at].focus();
    if (large.open) show();
  };

  const across = () => {
    const top = thumbs[0].getBoundingClientRect().top;
    const next = thumbs.findIndex((thumb) => thumb.getBoundingClientRect().top > top);
    return next < 0 ? thumbs.length : next;
  };

  // The thumbnail at once, the original in its place as soon as it is there; a browser that cannot show it keeps the first.
  const show = () => {
    shown = at;
    const thumb = thumbs[at];
    const picture = thumb.firstElementChild.cloneNode(true);
    byId("stage").replaceChildren(picture);
    const details = byId("details");
    details.replaceChildren(thumb.parentElement.querySelector(".more").content.cloneNode(true));
    details.scrollTop = 0;
    byId("original").href = thumb.href;
    byId("before").disabled = at === 0;
    byId("after").disabled = at === thumbs.length - 1;
    if (picture.tagName === "IMG") {
      const original = new Image();
      original.alt = picture.alt;
      original.addEventListener("load", () => {
        if (picture.isConnected) picture.replaceWith(original);
      });
      original.src = thumb.href;
    }
    if (!large.open) large.showModal();
    // Enter opens the original, whatever button was used last.
    byId("original").focus();
  };

  const steps = {
    ArrowLeft: () => at - 1,
    ArrowRight: () => at + 1,
    ArrowUp: () => at - across(),
    ArrowDown: () => at + across(),
    Home: () => 0,
    End: () => thumbs.length - 1,
  };

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const onThumb = document.activeElement === thumbs[at];
    if (event.key === "?") {
      if (keys.open) keys.close();
      else keys.showModal();
    } else if (keys.open || !thumbs.length) {
      return;
    } else if (event.key in steps) {
      // Up and down scroll the details beside a large picture.
      if (large.open && ["ArrowUp", "ArrowDown"].includes(event.key)) return;
      go(onThumb || large.open ? steps[event.key]() : at);
    } else if (event.key === " " && large.open && event.target.tagName !== "BUTTON") {
      large.close();
    } else if (event.key === " " && onThumb) {
      show();
    } else {
      return;
    }
    event.preventDefault();
  });

  for (const [number, thumb] of thumbs.entries()) {
    thumb.addEventListener("focus", () => { at = number; });
    thumb.addEventListener("click", (event) => {
      // Enter clicks too, without a pointer: it follows the link, as do the keys for a new tab.
      if (event.detail === 0 || event.ctrlKey || event.metaKey || event.shiftKey) return;
      event.preventDefault();
      at = number;
      show();
    });
  }
  large.addEventListener("close", () => {
    byId("stage").replaceChildren();
    // The dialog has given the focus back to where it was opened from.
    thumbs[shown].focus();
  });
  byId("before").addEventListener("click", () => go(at - 1));
  byId("after").addEventListener("click", () => go(at + 1));
  for (const dialog of [large, keys]) {
    dialog.querySelector(".close").addEventListener("click", () => dialog.close());
  }
  byId("help").addEventListener("click", () => keys.showModal());
})();
