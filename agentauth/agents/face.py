"""An agent's face: a small geometric portrait, always the same for the same name and tenant.

Pure. The SVG carries classes only, no style attribute, so it is safe under a strict Content-Security-Policy and follows
the theme. A face helps memory. It proves nothing: name, owner and host are the identity.
"""

import hashlib

HEADS = (
    '<circle cx="32" cy="30" r="17"/>',
    '<rect x="16" y="14" width="32" height="32" rx="6"/>',
    '<path d="M32 12 48 21v18L32 48 16 39V21z"/>',
    '<path d="M15 46V29a17 17 0 0 1 34 0v17z"/>',
    '<path d="M24 13h16l9 9v15l-9 9H24l-9-9V22z"/>',
    '<path d="M16 14h32v17a16 16 0 0 1-32 0z"/>',
)
SHADES = (  # the lit half of the head
    '<path d="M32 0h32v64H32z"/>',
    '<path d="M64 0v64H0z"/>',
    '<path d="M0 32h64v32H0z"/>',
    '<path d="M0 0h64v22H0z"/>',
)
EYES = (
    '<circle cx="25" cy="29" r="3"/><circle cx="39" cy="29" r="3"/>',
    '<path d="M21 27h8v4h-8zM35 27h8v4h-8z"/>',
    '<path d="M21 31a4 4 0 0 1 8 0zM35 31a4 4 0 0 1 8 0z"/>',
    '<path d="M20 26h24v6H20z"/>',
    '<path d="M22 26h6v6h-6zM36 26h6v6h-6z"/>',
    '<path d="M23 24h4v9h-4zM37 24h4v9h-4z"/>',
    '<circle cx="25" cy="29" r="4"/><path d="M35 27h8v4h-8z"/>',
)
MOUTHS = (
    '<path d="M26 37h12a6 4 0 0 1-12 0z"/>',
    '<path d="M26 38h12v2.5H26z"/>',
    '<path d="M25 37h2.5v4H25zM30.8 37h2.5v4h-2.5zM36.5 37H39v4h-2.5z"/>',
    '<circle cx="32" cy="39" r="2.6"/>',
    '<path d="M28 37h11v2.5H28z"/>',
)
CROWNS = (
    "",
    '<path d="M31 4h2v11h-2z"/><circle cx="32" cy="5" r="3"/>',
    '<path d="M10 24h5v12h-5zM49 24h5v12h-5z"/>',
    '<path d="M22 6h20v5H22z"/>',
    '<path d="M10 31a22 22 0 0 1 44 0h-4a18 18 0 0 0-36 0z"/><path d="M9 28h6v9H9zM49 28h6v9h-6z"/>',
)
SHOULDERS = (
    '<path d="M8 64a24 13 0 0 1 48 0z"/>',
    '<path d="M10 64v-6l8-6h28l8 6v6z"/>',
    '<path d="M6 64V54h52v10z"/>',
)
INKS = 8


def face(name: str, tenant_slug: str) -> str:
    """The portrait as an SVG string. `ink-0` to `ink-7` are tokens of the stylesheet."""
    seed = hashlib.sha256(f"{tenant_slug}/{name.casefold()}".encode()).digest()

    def pick(at: int, choices: tuple[str, ...]) -> str:
        return choices[int.from_bytes(seed[at * 2 : at * 2 + 2], "big") % len(choices)]

    head = int.from_bytes(seed[:2], "big") % len(HEADS)
    return (
        f'<svg class="face ink-{seed[31] % INKS}" viewBox="0 0 64 64" aria-hidden="true" focusable="false">'
        f'<rect class="face-ground" width="64" height="64"/>'
        f'<g class="face-body">{pick(5, SHOULDERS)}{pick(4, CROWNS)}</g>'
        f'<g class="face-head">{HEADS[head]}</g><g class="face-lit" clip-path="url(#head-{head})">{pick(1, SHADES)}</g>'
        f'<g class="face-marks">{pick(2, EYES)}{pick(3, MOUTHS)}</g></svg>'
    )


def clips() -> str:
    """The six head outlines, once per page beside the icon sprite: `face` refers to them."""
    return "".join(f'<clipPath id="head-{n}">{head}</clipPath>' for n, head in enumerate(HEADS))
