// What tests ask of a page that is laid out. Each function gives a list of what is wrong.

function nameOf(element) {
  const names = [element.localName, element.id && `#${element.id}`, ...element.classList];
  return `${names.filter(Boolean).join(".")}: ${element.textContent.trim().slice(0, 40)}`;
}

function seenElements() {
  return [...document.body.querySelectorAll("*")].filter((element) => {
    const box = element.getBoundingClientRect();
    // What is for screen readers only is a box of one pixel.
    return box.width > 1 && box.height > 1 && element.checkVisibility({ visibilityProperty: true });
  });
}

function scrolls(element, direction) {
  return ["auto", "scroll"].includes(getComputedStyle(element)[`overflow${direction}`]);
}

// Elements that the window is too narrow for, though the page may hide that.
function findWhatIsTooWide() {
  const wide = seenElements().filter((element) => {
    if (element.getBoundingClientRect().right <= innerWidth + 0.5) return false;
    for (let box = element.parentElement; box !== document.body; box = box.parentElement) {
      if (scrolls(box, "X")) return false;
    }
    return true;
  });
  const excess = document.documentElement.scrollWidth - innerWidth;
  return excess > 0 ? [`${excess} pixels`, ...wide.map(nameOf)] : wide.map(nameOf);
}

// Elements whose text sticks out of them or is cut off. Letters may be higher than their line: what
// overflows and is seen counts from a whole line on.
function findCutText() {
  const hasText = (element) =>
    [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
  return seenElements()
    .filter((element) => {
      const style = getComputedStyle(element);
      const cuts = style.overflowX !== "visible" || style.overflowY !== "visible";
      if (style.display === "inline" || !(hasText(element) || cuts)) return false;
      const isWide = element.scrollWidth > element.clientWidth + 1 && !scrolls(element, "X");
      const room = style.overflowY === "visible" ? parseFloat(style.fontSize) : 1;
      const isHigh = element.scrollHeight > element.clientHeight + room && !scrolls(element, "Y");
      return isWide || (isHigh && style.webkitLineClamp === "none");
    })
    .filter((element) => !element.matches("input, textarea, select"))
    .map(nameOf);
}

// Fields that show hardly anything of what is typed, and text that is set letter below letter.
function findWhatIsSqueezed() {
  const isNarrow = (element, letters) => {
    const { paddingLeft, paddingRight, fontSize } = getComputedStyle(element);
    const inside = element.clientWidth - parseFloat(paddingLeft) - parseFloat(paddingRight);
    return inside < letters * parseFloat(fontSize);
  };
  const fields = [
    ...document.querySelectorAll("input:not([type=radio], [type=checkbox]), textarea"),
  ].filter((element) => element.checkVisibility());
  const texts = seenElements().filter(
    (element) => getComputedStyle(element).display === "block" && element.innerText.length > 5,
  );
  return [
    ...fields.filter((element) => isNarrow(element, 4)),
    ...texts.filter((element) => isNarrow(element, 2)),
  ].map(nameOf);
}

function luminance([red, green, blue]) {
  const [r, g, b] = [red, green, blue].map((value) =>
    value / 255 <= 0.04045 ? value / 255 / 12.92 : ((value / 255 + 0.055) / 1.055) ** 2.4,
  );
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}

function contrast(one, other) {
  const [dark, light] = [luminance(one), luminance(other)].sort((a, b) => a - b);
  return (light + 0.05) / (dark + 0.05);
}

async function readPixels(picture) {
  const image = await createImageBitmap(
    new Blob([Uint8Array.from(atob(picture), (letter) => letter.charCodeAt(0))]),
  );
  const canvas = new OffscreenCanvas(image.width, image.height).getContext("2d");
  canvas.drawImage(image, 0, 0);
  const { data } = canvas.getImageData(0, 0, image.width, image.height);
  return Array.from({ length: data.length / 4 }, (_, place) =>
    data.slice(4 * place, 4 * place + 3),
  );
}

// The number of pixels that stand out (WCAG, 1.4.11) from those of another picture.
async function countChanges(picture, other) {
  const [pixels, others] = [await readPixels(picture), await readPixels(other)];
  return pixels.filter((pixel, place) => contrast(pixel, others[place]) >= 3).length;
}

// The number of pixels that stand out from the first one, which is outside of what is shown.
async function countMarks(picture) {
  const pixels = await readPixels(picture);
  return pixels.filter((pixel) => contrast(pixel, pixels[0]) >= 3).length;
}
