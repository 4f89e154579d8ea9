r"""The little LaTeX that model notation needs, and its MathML.

Browsers show MathML without fonts or scripts of ours; Markdown readers show the LaTeX.
Read are: letters, digits, ``{}``, ``_``, ``^``, the commands of ``SYMBOLS``, ``\mathrm`` and
``\operatorname``. Anything else is shown as the character it is, escaped.
"""

import re
from html import escape

GREEK = {
    name: chr(code)
    for name, code in {
        "alpha": 0x3B1,
        "beta": 0x3B2,
        "eta": 0x3B7,
        "theta": 0x3B8,
        "mu": 0x3BC,
        "rho": 0x3C1,
        "sigma": 0x3C3,
        "phi": 0x3D5,
        "Phi": 0x3A6,
        "Sigma": 0x3A3,
        "Omega": 0x3A9,
    }.items()
}
RELATIONS = {"sim": "∼", "mid": "∣", "propto": "∝", "in": "∈", "lt": "<", "gt": ">"}
MARKS = {"dots": "…", "cdot": "⋅", "times": "×", "top": "⊤", "backslash": "\\", "wedge": "∧"}
FUNCTIONS = {"log": "log", "exp": "exp"}
SPACES = {",": "0.17em", " ": "0.25em", "quad": "1em"}
SYMBOLS = GREEK | RELATIONS | MARKS | FUNCTIONS | SPACES

_TOKEN = re.compile(r"\\([A-Za-z]+) ?|\\(.)|(\d+(?:\.\d+)?)|(\s+)|(.)")
# inside an upright name these stand for characters
_IN_NAME = {"_": r"\_", "%": r"\%", "$": r"\$", "#": r"\#", "&": r"\&", "{": r"\{", "}": r"\}"}
_IN_NAME |= {"\\": r"\backslash ", "^": r"\wedge ", "~": r"\sim ", "<": r"\lt ", ">": r"\gt "}
_IN_NAME |= {" ": r"\ ", "`": "'", "\n": r"\ "}


def upright(name: str) -> str:
    r"""LaTeX of a word set upright, ``\mathrm{period[T.2]}``, its characters made harmless."""
    return r"\mathrm{" + "".join(_IN_NAME.get(c, c) for c in name) + "}"


def mathml(latex: str, display: bool = False) -> str:
    """MathML of a formula: one ``<math>`` element, safe to put into HTML."""
    mode = ' display="block"' if display else ""
    return f"<math{mode}><mrow>{_Reader(latex).row()}</mrow></math>"


class _Reader:
    """Recursive descent over the tokens of a formula."""

    def __init__(self, latex: str):
        self.tokens = [m for m in _TOKEN.finditer(latex) if m[4] is None]
        self.position = 0

    def row(self) -> str:
        """Atoms with their scripts, up to the end of the group."""
        out = []
        while self.position < len(self.tokens) and self._text() != "}":
            out.append(self._scripted())
        return "".join(out)

    def _text(self) -> str:
        return self.tokens[self.position][0] if self.position < len(self.tokens) else ""

    def _scripted(self) -> str:
        base, below, above = self._atom(), "", ""
        while self._text() in ("_", "^"):
            mark = self._text()
            self.position += 1
            script = self._atom()
            below, above = (script, above) if mark == "_" else (below, script)
        if below and above:
            return f"<msubsup>{base}{below}{above}</msubsup>"
        if below:
            return f"<msub>{base}{below}</msub>"
        return f"<msup>{base}{above}</msup>" if above else base

    def _atom(self) -> str:
        if self.position >= len(self.tokens):
            return "<mrow></mrow>"
        token = self.tokens[self.position]
        self.position += 1
        command, escaped, number, _, character = token.groups()
        if command in ("mathrm", "operatorname"):
            space = '<mspace width="0.17em"></mspace>' if command == "operatorname" else ""
            name = f'<mi mathvariant="normal">{escape(self._name())}</mi>{space}'
            return f"<mrow>{name}</mrow>" if space else name
        if command is not None:
            return _symbol(command)
        if escaped is not None:
            return _symbol(escaped) if escaped in SPACES else f"<mo>{escape(escaped)}</mo>"
        if number is not None:
            return f"<mn>{number}</mn>"
        if character == "{":
            return self._group()
        tag = "mi" if character.isalpha() else "mo"
        character = "−" if character == "-" else character
        return f"<{tag}>{escape(character)}</{tag}>"

    def _group(self) -> str:
        inside = self.row()
        self.position += 1
        return f"<mrow>{inside}</mrow>"

    def _name(self) -> str:
        r"""Characters of ``\mathrm{…}``."""
        self.position += 1
        out = []
        while self.position < len(self.tokens) and self._text() != "}":
            command, escaped, *_ = self.tokens[self.position].groups()
            if escaped is not None:
                out.append("\N{NO-BREAK SPACE}" if escaped == " " else escaped)
            elif command is not None:
                out.append({"sim": "~", "wedge": "^"}.get(command, SYMBOLS.get(command, command)))
            else:
                out.append(self._text())
            self.position += 1
        self.position += 1
        return "".join(out)


def _symbol(command: str) -> str:
    if command in SPACES:
        return f'<mspace width="{SPACES[command]}"></mspace>'
    if command in GREEK:
        return f"<mi>{GREEK[command]}</mi>"
    if command in FUNCTIONS:
        return f'<mi>{FUNCTIONS[command]}</mi><mspace width="0.17em"></mspace>'
    return f"<mo>{escape((RELATIONS | MARKS).get(command, command))}</mo>"
