"""Plot columns of numbers: plot.py DATA PDF. The first line names them; the first is the one to the right."""

import sys
from pathlib import Path

WIDTH, HEIGHT, EDGE = 360, 220, 40
COLOURS = ("0.20 0.40 0.65", "0.80 0.40 0.10", "0.30 0.60 0.20")


def line(points, colour):
    """Return PDF's words for a line through points."""
    steps = [f"{x:.2f} {y:.2f} {'l' if i else 'm'}" for i, (x, y) in enumerate(points)]
    return f"{colour} RG 1.5 w {' '.join(steps)} S"


def text(x, y, said, colour="0 0 0"):
    """Return PDF's words for a text."""
    plain = said.replace("\\", r"\\").replace("(", r"\(").replace(")", r"\)")
    return f"BT {colour} rg /F 10 Tf {x:.2f} {y:.2f} Td ({plain}) Tj ET"


def picture(names, columns):
    """Return the content of the page."""
    across, most = columns[0], max(max(column) for column in columns[1:])
    left, low, wide, high = EDGE + 10, EDGE, WIDTH - EDGE - 30, HEIGHT - EDGE - 30
    parts = [line([(left, low + high), (left, low), (left + wide, low)], "0 0 0")]
    parts += [text(left + wide / 2, 10, names[0]), text(left - 4, low - 14, "0")]
    parts += [text(left + wide - 20, low - 14, f"{across[-1]:g}"), text(2, low + high - 4, f"{most:,.0f}")]
    for i, (name, column) in enumerate(zip(names[1:], columns[1:], strict=True)):
        points = [
            (left + wide * x / across[-1], low + high * y / most) for x, y in zip(across, column, strict=True)
        ]
        parts += [line(points, COLOURS[i]), text(left + 14, low + high - 4 - 14 * i, name, COLOURS[i])]
    return "\n".join(parts)


def pdf(content):
    """Return a PDF file of one page."""
    objects = [
        "<< /Type /Catalog /Pages 2 0 R >>",
        "<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 {WIDTH} {HEIGHT}] /Contents 4 0 R"
        " /Resources << /Font << /F << /Type /Font /Subtype /Type1 /BaseFont /Helvetica >> >> >> >>",
        f"<< /Length {len(content)} >>\nstream\n{content}\nendstream",
    ]
    out, places = "%PDF-1.4\n", []
    for number, each in enumerate(objects, 1):
        places.append(len(out))
        out += f"{number} 0 obj\n{each}\nendobj\n"
    rows = "".join(f"{place:010} 00000 n \n" for place in places)
    table = f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n{rows}"
    return f"{out}{table}trailer\n<< /Size {len(objects) + 1} /Root 1 0 R >>\nstartxref\n{len(out)}\n%%EOF\n"


def main(data, target):
    """Read the numbers, write the picture."""
    names, *rows = [row.split() for row in Path(data).read_text().splitlines()]
    columns = list(zip(*[map(float, row) for row in rows], strict=True))
    Path(target).write_text(pdf(picture(names, columns)))


main(*sys.argv[1:])
