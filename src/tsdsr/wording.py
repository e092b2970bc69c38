"""Numbers with nouns in messages."""

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
