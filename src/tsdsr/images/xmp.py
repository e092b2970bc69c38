"""Changes to an XMP packet in place: sizes, what it says about colours, and references to data that a result lacks."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

_SIZES = (b"tiff:ImageWidth", b"exif:PixelXDimension"), (b"tiff:ImageLength", b"exif:PixelYDimension")
_PANORAMA = (
    (b"GPano:CroppedAreaImageWidthPixels", (b"GPano:FullPanoWidthPixels", b"GPano:CroppedAreaLeftPixels")),
    (b"GPano:CroppedAreaImageHeightPixels", (b"GPano:FullPanoHeightPixels", b"GPano:CroppedAreaTopPixels")),
)
"""Of each side: the field that is the size of the picture, and those that are in the same pixels."""


def fit_xmp(xmp: bytes, width: int, height: int) -> bytes:
    """Update orientation and sizes in an XMP packet, where present, as attributes or as elements.

    Args:
        xmp (bytes): the packet.
        width, height (int): size of the picture that it will describe.
    """
    xmp = _with_number(xmp, b"tiff:Orientation", 1)
    for size, names, (known, others) in zip((width, height), _SIZES, _PANORAMA, strict=True):
        for name in names:
            xmp = _with_number(xmp, name, size)
        before = _number(xmp, known)
        if before:
            for name in others:
                xmp = _with_number(xmp, name, round((_number(xmp, name) or 0) * size / before))
            xmp = _with_number(xmp, known, size)
    return xmp


def declare_srgb(xmp: bytes) -> bytes:
    """Let an XMP packet say that its picture is sRGB, where it says anything about colours."""
    xmp = _with_number(xmp, b"exif:ColorSpace", 1)
    return re.sub(rb"""(\bphotoshop:ICCProfile(?:=["']|>))[^"'<]*(?=["'<])""", rb"\g<1>sRGB IEC61966-2.1", xmp)


def _field(name: bytes) -> bytes:
    return rb"(\b" + name + rb"""(?:=["']|>))(\d{1,9})(?=["'<])"""


def _with_number(xmp: bytes, name: bytes, value: int) -> bytes:
    return re.sub(_field(name), rb"\g<1>%d" % value, xmp)


def _number(xmp: bytes, name: bytes) -> int | None:
    match = re.search(_field(name), xmp)
    return None if match is None else int(match[2])


@dataclass(frozen=True)
class _Reference:
    """Fields that promise data outside the packet.

    Attributes:
        what (str): the data.
        space (bytes): start of their namespaces; empty for all.
        names (tuple): starts of their names; empty for all.
        prefixes (tuple): usual prefixes of the namespace, for packets that do not declare it.
    """

    what: str
    space: bytes
    names: tuple[bytes, ...] = ()
    prefixes: tuple[bytes, ...] = ()

    def covers(self, space: bytes, name: bytes) -> bool:
        return space.startswith(self.space) and name.startswith(self.names or b"")


_GOOGLE, _APPLE = b"http://ns.google.com/photos/", b"http://ns.apple.com/"
_REFERENCES = (
    _Reference("gain map", b"http://ns.adobe.com/hdr-gain-map/", (), (b"hdrgm",)),
    _Reference("gain map", _APPLE + b"HDRGainMap/", (), (b"HDRGainMap",)),
    _Reference("video", b"", (b"MotionPhoto", b"MicroVideo", b"OLivePhoto", b"LivePhoto")),
    _Reference("video", b"http://ns.oplus.com/photos/1.0/camera/", (b"VideoLength",), (b"OpCamera",)),
    _Reference("attached files", _GOOGLE + b"1.0/container/", (), (b"Container", b"GContainer", b"Item")),
    _Reference("attached files", b"http://ns.xiaomi.com/photos/1.0/camera/", (b"XMPMeta",), (b"MiCamera",)),
    _Reference("depth map", _GOOGLE + b"1.0/depthmap/", (), (b"GDepth",)),
    _Reference("depth map", _GOOGLE + b"1.0/focus/", (), (b"GFocus",)),
    _Reference("depth map", _GOOGLE + b"dd/1.0/", (), (b"Device",)),
    _Reference("depth map", _APPLE + b"depthData/", (), (b"depthData",)),
    _Reference("depth map", _APPLE + b"depthBlurEffect/", (), (b"depthBlurEffect",)),
    _Reference("depth map", _APPLE + b"pixeldatainfo/", (), (b"apdi",)),
    _Reference("matte", _APPLE + b"portraitEffectsMatte/", (), (b"portraitEffectsMatte",)),
    _Reference("original picture", _GOOGLE + b"1.0/image/", (), (b"GImage",)),
    _Reference("sound", _GOOGLE + b"1.0/audio/", (), (b"GAudio",)),
    _Reference("extended XMP", b"http://ns.adobe.com/xmp/note/", (b"HasExtendedXMP",), (b"xmpNote",)),
    _Reference("thumbnail", b"http://ns.adobe.com/xap/1.0/", (b"Thumbnails",), (b"xmp", b"xap")),
    _Reference("content credentials", b"http://purl.org/dc/terms/", (b"provenance",), (b"dcterms",)),
)
_USUAL = {prefix: reference.space for reference in _REFERENCES for prefix in reference.prefixes}
_MARKS = tuple(r.space for r in _REFERENCES if r.space and not r.names) + tuple(
    name for reference in _REFERENCES for name in reference.names
)

_TAG = re.compile(rb"""</?([^\s/<>"'=]+)([^"'<>]*(?:"[^"]*"[^"'<>]*|'[^']*'[^"'<>]*)*)>""")
_ATTRIBUTE = re.compile(rb"""\s+([^\s=<>"'/]+)\s*=\s*(?:"([^"]*)"|'([^']*)')""")


def without_references(xmp: bytes) -> tuple[bytes | None, list[str]]:
    """Remove the fields that refer to data outside the packet, such as gain maps and videos; keep the rest to the byte.

    Args:
        xmp (bytes): the packet.

    Returns:
        tuple: the packet, or None if it is damaged and holds such fields; and the names of what they refer to.
    """
    spans: list[tuple[int, int]] = []
    found: list[str] = []
    try:
        for start, stop, what in _references(xmp):
            spans.append((start, stop))
            found.append(what)
    except ValueError:
        plain = xmp.replace(b"\0", b"")  # UTF-16, which files may not use here
        return (None, ["damaged XMP"]) if any(mark in plain for mark in _MARKS) else (xmp, [])
    removed = b"".join(xmp[start:stop] for start, stop in spans)
    for start, stop in reversed(spans):
        xmp = xmp[:start] + xmp[stop:]
    return _without_declarations(xmp, removed), list(dict.fromkeys(found))


def _references(xmp: bytes) -> Iterator[tuple[int, int, str]]:
    """Yield start and end of each field to remove, and what it refers to.

    Raises:
        ValueError: The packet is not well-formed.
    """
    scopes: list[tuple[bytes, dict[bytes, bytes]]] = [(b"", _USUAL)]
    removing: tuple[int, int, str] | None = None  # where the element starts, its depth, what it refers to
    for tag in _tags(xmp):
        name, closing, empty = tag[1], xmp[tag.start() + 1] == 0x2F, xmp[tag.end() - 2] == 0x2F
        if closing:
            if len(scopes) == 1 or scopes.pop()[0] != name:
                raise ValueError("an end without a start")
            if removing is not None and removing[1] == len(scopes):
                yield removing[0], tag.end(), removing[2]
                removing = None
            continue
        attributes = list(_ATTRIBUTE.finditer(xmp, tag.end(1), tag.end()))
        scope = scopes[-1][1] | {a[1][6:]: a[2] or a[3] or b"" for a in attributes if a[1].startswith(b"xmlns:")}
        what = None if removing is not None else _referent(name, scope)
        if what is not None:
            if empty:
                yield tag.start(), tag.end(), what
            else:
                removing = tag.start(), len(scopes), what
        elif removing is None:
            for attribute in attributes:
                what = _referent(attribute[1], scope)
                if what is not None:
                    yield attribute.start(), attribute.end(), what
        if not empty:
            scopes.append((name, scope))
    if len(scopes) > 1:
        raise ValueError("a start without an end")


def _tags(xmp: bytes) -> Iterator[re.Match[bytes]]:
    """Yield the start and end tags of a packet."""
    at = xmp.find(b"<")
    while at >= 0:
        for opening, closing in ((b"<!--", b"-->"), (b"<?", b"?>"), (b"<![CDATA[", b"]]>"), (b"<!", b">")):
            if xmp.startswith(opening, at):
                end = xmp.index(closing, at + len(opening)) + len(closing)
                break
        else:
            tag = _TAG.match(xmp, at)
            if tag is None:
                raise ValueError("no tag")
            yield tag
            end = tag.end()
        at = xmp.find(b"<", end)


def _referent(name: bytes, scope: dict[bytes, bytes]) -> str | None:
    """Return what a field refers to outside the packet, if it does."""
    prefix, colon, local = name.partition(b":")
    if not colon or prefix == b"xmlns":
        return None
    space = scope.get(prefix, b"")
    return next((reference.what for reference in _REFERENCES if reference.covers(space, local)), None)


def _without_declarations(xmp: bytes, removed: bytes) -> bytes:
    """Remove the declarations of prefixes that only the removed fields used."""
    names = [name for tag in _tags(xmp) for name in (tag[1], *(a[1] for a in _ATTRIBUTE.finditer(tag[2])))]
    used = {name.partition(b":")[0] for name in names}
    for prefix in set(re.findall(rb"[\s</]([^\s<>:=\"'/]+):", removed)) - used:
        xmp = re.sub(rb"\s+xmlns:" + re.escape(prefix) + rb"""=(?:"[^"]*"|'[^']*')""", b"", xmp)
    return xmp
