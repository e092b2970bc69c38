from __future__ import annotations

import random
import time
from pathlib import Path

import pytest
from PIL import Image

from tests.images.pictures import rgb
from tsdsr.images.reading import read_picture
from tsdsr.images.writing import write_picture
from tsdsr.images.xmp import declare_srgb, fit_xmp, without_references

HEAD = '<?xpacket begin="" id="W5M0MpCehiHzreSzNTczkc9d"?>\n<x:xmpmeta xmlns:x="adobe:ns:meta/">\n'
RDF = 'xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"'
TAIL = '</x:xmpmeta>\n<?xpacket end="w"?>'
DC = 'xmlns:dc="http://purl.org/dc/elements/1.1/"'
TITLE = "<dc:title><rdf:Alt><rdf:li xml:lang='x-default'>A &lt;lake&gt; &amp; hdrgm:</rdf:li></rdf:Alt></dc:title>"
GOOGLE = "http://ns.google.com/photos/1.0"


def packet(attributes: str = "", elements: str = "") -> bytes:
    """An XMP packet with a title and these attributes and elements."""
    return (
        f'{HEAD}<rdf:RDF {RDF}><!-- <a> --><rdf:Description rdf:about="" {DC}{attributes}>{TITLE}{elements}'
        f"</rdf:Description></rdf:RDF>{TAIL}"
    ).encode()


def container(prefix: str, item: str, semantic: str) -> str:
    return (
        f"<{prefix}:Directory><rdf:Seq>"
        f'<rdf:li rdf:parseType="Resource"><{prefix}:Item {item}:Semantic="Primary" {item}:Mime="image/jpeg"/></rdf:li>'
        f'<rdf:li rdf:parseType="Resource"><{prefix}:Item {item}:Semantic="{semantic}" {item}:Length="41"/></rdf:li>'
        f"</rdf:Seq></{prefix}:Directory>"
    )


CASES = {
    "Ultra HDR": (
        f' xmlns:Container="{GOOGLE}/container/" xmlns:Item="{GOOGLE}/container/item/"'
        ' xmlns:hdrgm="http://ns.adobe.com/hdr-gain-map/1.0/" hdrgm:Version="1.0"',
        container("Container", "Item", "GainMap"), {"gain map", "attached files"},
    ),
    "gain map as elements": (
        ' xmlns:g="http://ns.adobe.com/hdr-gain-map/1.0/"',
        "<g:Version>1.0</g:Version><g:GainMapMax><rdf:Seq><rdf:li>3</rdf:li></rdf:Seq></g:GainMapMax>", {"gain map"},
    ),
    "gain map of Apple": (
        ' xmlns:HDRGainMap="http://ns.apple.com/HDRGainMap/1.0/" HDRGainMap:HDRGainMapVersion="65536"', "",
        {"gain map"},
    ),
    "Motion Photo": (
        f' xmlns:GCamera="{GOOGLE}/camera/" xmlns:C="{GOOGLE}/container/" xmlns:I="{GOOGLE}/container/item/"'
        " GCamera:MotionPhoto='1' GCamera:MotionPhotoVersion=\"1\" GCamera:MotionPhotoPresentationTimestampUs=\"5\"",
        container("C", "I", "MotionPhoto"), {"video", "attached files"},
    ),
    "Micro Video": (
        f' xmlns:GCamera="{GOOGLE}/camera/"\n   GCamera:MicroVideo="1"\n   GCamera:MicroVideoOffset="4122365"', "",
        {"video"},
    ),
    "Motion Photo of another maker": (
        ' xmlns:OpCamera="http://ns.oplus.com/photos/1.0/camera/" OpCamera:MotionPhotoOwner="oplus"'
        ' OpCamera:OLivePhotoVersion="2" OpCamera:VideoLength="4122365"', "", {"video"},
    ),
    "extended": (
        ' xmlns:xmpNote="http://ns.adobe.com/xmp/note/" xmpNote:HasExtendedXMP="0123456789ABCDEF0123456789ABCDEF"', "",
        {"extended XMP"},
    ),
    "depth": (
        f' xmlns:GDepth="{GOOGLE}/depthmap/" xmlns:GImage="{GOOGLE}/image/" GDepth:Format="RangeInverse"'
        ' GDepth:Mime="image/png" GImage:Mime="image/jpeg"', "", {"depth map", "original picture"},
    ),
    "dynamic depth": (
        ' xmlns:Device="http://ns.google.com/photos/dd/1.0/device/"',
        "<Device:Container><Device:Directory/></Device:Container>", {"depth map"},
    ),
    "sound": (f' xmlns:GAudio="{GOOGLE}/audio/" GAudio:Mime="audio/mp4a-latm"', "", {"sound"}),
    "thumbnail": (
        ' xmlns:xmp="http://ns.adobe.com/xap/1.0/"', "<xmp:Thumbnails><rdf:Alt/></xmp:Thumbnails>", {"thumbnail"},
    ),
    "credentials": (
        ' xmlns:dcterms="http://purl.org/dc/terms/" dcterms:provenance="self#jumbf=c2pa/x"', "",
        {"content credentials"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", CASES)
def test_fields_that_refer_to_lost_data_go_and_the_rest_stays(tmp_path: Path, kind: str) -> None:
    attributes, elements, what = CASES[kind]
    found, names = without_references(packet(attributes, elements))
    assert set(names) == what
    assert found is not None
    assert found == packet()
    kept, none = without_references(found)
    assert (kept, none) == (found, [])
    Image.fromarray(rgb()).save(tmp_path / "a.jpg", xmp=packet(attributes, elements))
    picture = read_picture(tmp_path / "a.jpg")
    assert any(all(name in notice for name in what) and "left out" in notice for notice in picture.notices)
    write_picture(picture, tmp_path / "b.jpg")
    assert read_picture(tmp_path / "b.jpg").metadata.xmp == found


def test_other_fields_of_the_same_namespaces_stay() -> None:
    attributes = f' xmlns:GCamera="{GOOGLE}/camera/" GCamera:BurstID="7"'
    found, names = without_references(packet(attributes + ' GCamera:MicroVideo="1"'))
    assert (found, names) == (packet(attributes), ["video"])
    rating = ' xmlns:xmp="http://ns.adobe.com/xap/1.0/" xmp:Rating="5"'
    assert without_references(packet(rating)) == (packet(rating), [])
    assert without_references(packet()) == (packet(), [])


def test_prefixes_are_those_that_the_packet_declares() -> None:
    mine = ' xmlns:hdrgm="http://example.org/" hdrgm:Version="2"'
    assert without_references(packet(mine)) == (packet(mine), [])
    undeclared = packet(' hdrgm:Version="2" xmpNote:HasExtendedXMP="0"')
    assert without_references(undeclared) == (packet(), ["gain map", "extended XMP"])


def test_a_damaged_packet_stays_unless_it_makes_promises() -> None:
    for damage in (b"<a>", b"<a b='>", b"<!-- ", b"</b>", b"<a></b>"):
        plain = packet() + damage
        assert without_references(plain) == (plain, [])
        promising = packet(' xmlns:hdrgm="http://ns.adobe.com/hdr-gain-map/1.0/" hdrgm:Version="1"') + damage
        assert without_references(promising) == (None, ["damaged XMP"])
        assert without_references(promising.decode().encode("utf-16"))[0] is None


def test_any_bytes_are_handled_in_linear_time() -> None:
    chance = random.Random(0)
    whole = packet(*CASES["Ultra HDR"][:2])
    for _ in range(500):
        damaged = bytearray(whole)
        for _ in range(3):
            damaged[chance.randrange(len(damaged))] = chance.choice(b"<>/\"' :a=")
        without_references(bytes(damaged))
    start = time.perf_counter()
    for part in (b"<!--", b"<a ", b"<a b='", b"<", b"<a>", b" x=''", b'<a b="c"\''):
        without_references(part * 200_000)
    assert time.perf_counter() - start < 20


def test_panoramas_keep_their_proportions() -> None:
    gpano = (
        '<a GPano:CroppedAreaImageWidthPixels="400" GPano:CroppedAreaImageHeightPixels="200" '
        'GPano:FullPanoWidthPixels="800" GPano:FullPanoHeightPixels="400" GPano:CroppedAreaLeftPixels="100" '
        'GPano:CroppedAreaTopPixels="50"/>'
    )
    doubled = gpano.encode()
    for old, new in (("50", "100"), ("100", "200"), ("800", "1600"), ("400", "800"), ("200", "400")):
        gpano = gpano.replace(f'"{old}"', f'"n{new}"')
    assert fit_xmp(doubled, 800, 400) == gpano.replace('"n', '"').encode()
    assert fit_xmp(fit_xmp(doubled, 800, 400), 800, 400) == fit_xmp(doubled, 800, 400)


def test_xmp_says_srgb_once_the_pixels_are() -> None:
    before = b'<a exif:ColorSpace="65535" photoshop:ICCProfile="Display P3"/><exif:ColorSpace>2</exif:ColorSpace>'
    after = b'<a exif:ColorSpace="1" photoshop:ICCProfile="sRGB IEC61966-2.1"/><exif:ColorSpace>1</exif:ColorSpace>'
    assert declare_srgb(before) == after
