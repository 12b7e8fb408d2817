"""The LaTeX that a formula may use: plain tables, read by `formula.py`."""

from __future__ import annotations


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


GREEK = _words(
    "alpha beta gamma delta epsilon varepsilon zeta eta theta vartheta iota kappa lambda mu "
    "nu xi pi varpi rho varrho sigma varsigma tau upsilon phi varphi chi psi omega Gamma "
    "Delta Theta Lambda Xi Pi Sigma Upsilon Phi Psi Omega ell hbar imath jmath Re Im aleph"
)
"""Commands that are letters: a formula names them."""

OPERATORS = _words(
    "sum prod coprod int iint iiint oint bigcup bigcap bigoplus bigotimes bigodot bigvee "
    "bigwedge arccos arcsin arctan arg cos cosh cot coth csc deg det dim exp gcd hom inf "
    "injlim ker lg lim liminf limsup ln log max min Pr projlim sec sin sinh sup tan tanh "
    "nabla partial infty emptyset varnothing forall exists nexists top bot prime dagger angle "
    "triangle"
)
"""Commands that name an operation or a constant; what is below or above them is a formula."""

SIGNS = _words(
    "pm mp times div ast star circ bullet cdot cap cup setminus wedge vee oplus ominus otimes "
    "odot oslash le leq ge geq ll gg ne neq equiv sim simeq approx cong propto prec succ "
    "preceq succeq subset supset subseteq supseteq in ni notin mid nmid parallel perp models "
    "vdash colon coloneqq triangleq doteq to gets mapsto implies impliedby iff leftarrow "
    "rightarrow leftrightarrow Leftarrow Rightarrow Leftrightarrow longrightarrow "
    "longleftarrow Longrightarrow Longleftrightarrow longmapsto uparrow downarrow "
    "hookrightarrow lfloor rfloor lceil rceil langle rangle lvert rvert lVert rVert vert Vert "
    "lbrace rbrace lbrack rbrack backslash ldots cdots vdots ddots dots dotsc dotsb neg lnot "
    "land lor not because therefore quad qquad displaystyle textstyle scriptstyle limits "
    "nolimits nonumber notag big Big bigg Bigg bigl Bigl biggl Biggl bigr Bigr biggr Biggr "
    "bigm Bigm biggm Biggm middle lesssim gtrsim leqslant geqslant bmod hline thinspace"
)
"""Commands that name nothing: signs, arrows, spaces, sizes."""

ACCENTS = _words(
    "hat widehat bar tilde widetilde vec dot ddot check breve acute grave mathring overline "
    "underline"
)
"""Commands with one argument whose mark belongs to the name: `\\hat{y}` is not `y`."""

FONTS = _words(
    "mathbf mathrm mathcal mathbb mathfrak mathsf mathtt mathit mathscr boldsymbol bm operatorname"
)
"""Commands with one argument, which together with it is one name: `\\mathbf{W}`."""

TEXTS = _words("text textbf textit textrm textsf texttt mbox hbox tag label")
"""Commands whose argument is words, not a formula."""

ARGUMENTS = {
    **dict.fromkeys(("frac", "dfrac", "tfrac", "cfrac", "binom", "dbinom", "tbinom"), 2),
    **dict.fromkeys(("overset", "underset", "stackrel"), 2),
    **dict.fromkeys(("sqrt", "boxed", "phantom", "underbrace", "overbrace", "substack"), 1),
    **dict.fromkeys(("pmod", "mathop", "mathbin", "mathrel", "smash", "xrightarrow"), 1),
}
"""Commands with so many arguments, each a formula."""

ENVIRONMENTS = _words(
    "aligned align align* alignedat equation equation* gather gather* gathered split cases "
    "dcases matrix pmatrix bmatrix Bmatrix vmatrix Vmatrix smallmatrix array multline "
    "multline*"
)
"""What may stand in `\\begin{…}`."""

COMMANDS = frozenset(
    {"left", "right", "begin", "end"}
    | GREEK
    | OPERATORS
    | SIGNS
    | ACCENTS
    | FONTS
    | TEXTS
    | set(ARGUMENTS)
)
"""Every word that may follow a backslash."""
