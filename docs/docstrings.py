r"""Docstrings as the site shows them: formulas in Unicode, for no page fetches a typesetter; examples as code.

In the source they are as Sphinx and editors read them: formulas in TeX behind ``.. math::`` and ``:math:``.
"""

import re
from typing import Any

from griffe import Docstring, Extension, Object

_SIGNS = {
    "theta": "θ", "psi": "ψ", "varphi": "φ", "phi": "φ", "tau": "τ", "pi": "π", "beta": "β", "eta": "η", "mu": "μ",
    "lambda": "λ", "epsilon": "ε", "varepsilon": "ε", "Sigma": "Σ", "sigma": "σ", "kappa": "κ", "alpha": "α",
    "gamma": "γ", "delta": "δ", "Delta": "Δ", "sum": "Σ", "prod": "Π", "pm": "±", "mp": "∓", "cdot": "·",
    "le": "≤", "ge": "≥", "ne": "≠", "neq": "≠", "leq": "≤", "geq": "≥", "approx": "≈", "ll": "≪", "in": "∈",
    "leftarrow": "←", "to": "→", "partial": "∂", "preceq": "≼", "top": "ᵀ", "infty": "∞", "dots": "…", "ldots": "…",
    "lfloor": "⌊", "rfloor": "⌋", "lVert": "‖", "rVert": "‖", "Vert": "‖", "|": "‖", "ell": "ℓ", "odot": "⊙",
    "log": "log ", "times": "×",
    "quad": "  ", "qquad": "   ", ",": " ", ";": " ", ":": " ", "!": "", "{": "{", "}": "}", "lambda_": "λ",
}  # fmt: skip
_DISPLAYED = re.compile(
    r"^\.\. math::[ ]*((?:.+\n?|\n(?=    ))(?:(?:    .*|)\n)*?)(?=\S|\Z)", flags=re.MULTILINE
)
_WORD = re.compile(r"\\([A-Za-z]+|[,;:!|{}])")


def plain(tex: str) -> str:
    r"""Return a formula in letters and signs.

    >>> plain(r"z_y = s\,\psi(\theta_y + m), \qquad m = \frac{a}{\sqrt{1 + b}}")
    'z_y = s ψ(θ_y + m),     m = (a)/(√(1 + b))'
    """
    inner = r"\{((?:[^{}]|\{[^{}]*\})*)\}"
    for _ in range(4):
        tex = re.sub(rf"\\d?frac\s*{inner}\s*{inner}", r"(\1)/(\2)", tex)
        tex = re.sub(rf"\\sqrt\s*{inner}", r"√(\1)", tex)
        tex = re.sub(rf"\\(?:mathrm|text|operatorname|mathbf|mathcal|bar|hat|tilde)\s*{inner}", r"\1", tex)
    tex = re.sub(r"\\(?:left|right|tfrac|displaystyle)(?![A-Za-z])", "", tex)
    tex = _WORD.sub(lambda word: _SIGNS.get(word[1], word[1]), tex)
    tex = re.sub(r"([_^])\{(\w)\}", r"\1\2", tex).replace("\\\\", "\n").replace("&", "")
    return "\n".join(re.sub(r"(?<! ) (?= [^ ])", " ", line).strip() for line in tex.splitlines()).strip()


class Docstrings(Extension):
    """Makes Markdown of what docstrings hold beside it: formulas and examples."""

    def on_instance(self, *, obj: Object, **_: Any) -> None:
        """Change the docstring of a class, function or module once it is read."""
        if obj.docstring is not None:
            obj.docstring = _shown(obj.docstring)


def _shown(docstring: Docstring) -> Docstring:
    def example(found: re.Match[str]) -> str:
        return f"```pycon\n{found[0].strip()}\n```\n"

    def block(found: re.Match[str]) -> str:
        lines = "\n".join(f"    {line}" for line in plain(" ".join(found[1].split())).splitlines())
        return f"```text\n{lines.replace('    ', '', 1)}\n```\n\n"

    text = docstring.value
    text = _DISPLAYED.sub(block, text)
    text = re.sub(r":math:`([^`]+)`", lambda found: f"`{plain(found[1])}`", text)
    text = re.sub(r":(?:class|func|meth|mod|attr):`~?([^`]+)`", r"`\1`", text)
    text = re.sub(r"(?<!`)``([^`\n]+)``(?!`)", r"`\1`", text)
    docstring.value = re.sub(r"^>>> .*(?:\n.+)*", example, text, flags=re.MULTILINE)
    return docstring
