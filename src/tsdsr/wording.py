"""Parts of messages: numbers with nouns, errors of other libraries, sizes in bytes."""

from __future__ import annotations


def counted(count: int, noun: str, plural: str = "", thousands: str = "") -> str:
    """Return a count with its noun in the right number: "1 shard", "2 shards".

    Args:
        count (int): the number.
        noun (str): the noun in the singular.
        plural (str): its plural; the singular with an "s" if empty.
        thousands (str): separator of thousands, such as ",".
    """
    return f"{count:{thousands}} {noun if count == 1 else plural or f'{noun}s'}"


def first_line(error: BaseException) -> str:
    """Return the first line of an exception's message, or its representation if there is no message."""
    return (str(error).strip() or repr(error)).splitlines()[0]


def readable_size(count: int) -> str:
    """Return a number of bytes in units of 1000: "2.03 GB", "12.5 MB"."""
    return f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"
