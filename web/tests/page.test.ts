import { describe, expect, it } from "vitest";
import { resultName, secondsLeft, settingsOf } from "../src/page/jobs";

describe("names of results", () => {
  it.each([
    ["cat.png", "png", "cat.png"],
    ["cat.JPEG", "jpeg", "cat.JPEG"],
    ["cat.jpeg", "png", "cat.png"],
    ["my.cat", "webp", "my.webp"],
    ["v1.2 of a cat", "png", "v1.2 of a cat.png"],
    [".hidden", "jpeg", ".hidden.jpg"],
  ] as const)("%s as %s is %s", (name, format, expected) => expect(resultName(name, format)).toBe(expected));
});

describe("settings of the form", () => {
  it("have the package's defaults", () => {
    const settings = { scale: 4, target: null, fit: "contain", detail: 1, colorFix: "wavelet", tile: "auto" };
    expect(settingsOf({}, "auto")).toEqual({ ...settings, format: "same", quality: 90, toSrgb: false });
  });
  it("are translated", () => {
    const settings = settingsOf({ width: 30, height: 20, fit: "cover", format: "jpg", icc: "srgb" }, 512);
    expect(settings).toMatchObject({ target: [30, 20], fit: "cover", format: "jpeg", toSrgb: true, tile: 512 });
  });
});

describe("the time left", () => {
  it("follows the tiles so far", () => expect([secondsLeft(3, 0, 4), secondsLeft(3, 1, 4)]).toEqual([null, 9]));
});
