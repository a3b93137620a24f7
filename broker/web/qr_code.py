"""QR codes in the page itself: an image that is fetched would be one more address for a seed."""

from __future__ import annotations

import segno
from markupsafe import Markup

from broker.core.credentials import Secret

# ISO/IEC 18004 section 6.3.8 asks for four modules of white around the code.
_BORDER = 4


def qr_code(content: Secret, title: str) -> Markup:
    """The content as inline SVG; its colours are attributes, which the content security policy allows.

    Args:
        content: what a camera is to read.
        title: what a screen reader says.
    """
    drawn = segno.make_qr(content.reveal(), error="m")
    # Black on white whatever the page's colours are: many cameras do not read it the other way round.
    svg = drawn.svg_inline(border=_BORDER, dark="#000", light="#fff", omitsize=True, title=title, svgclass="qr-code")
    return Markup(svg)  # noqa: S704 - segno escapes the title; the rest is numbers
