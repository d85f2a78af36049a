"""Suggesting scopes in people's words, with a risk class, for an admin to edit before publishing. Pure.

What something is called decides. What the server says about itself (`readOnlyHint` and the like) may raise the risk and
never lowers it below what the name says; it counts downwards only where the name says nothing at all.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from agentauth.resources.drafts import DraftOperation

READ, CHANGE, DANGEROUS = "read", "change", "dangerous"
_RISING = (READ, CHANGE, DANGEROUS)


def _list(words: str) -> frozenset[str]:
    return frozenset(words.split())


_READING = _list(
    "get list see read search find show fetch query view describe count check lookup head status ping echo watch "
    "browse preview compare diff stat tail inspect summarize summarise explain validate estimate download"
)
_CHANGING = _list(
    "create add update put patch post set edit change write save insert upsert append book reserve enter open close "
    "send reply comment assign move copy rename upload import sync start resume pause stop enable disable submit "
    "schedule mark tag label join leave invite notify publish subscribe unsubscribe cancel accept decline log "
    "register merge commit push approve order lock unlock"
)
_DESTROYING = _list(
    "delete remove destroy drop purge wipe erase clear truncate reset revoke terminate kill ban pay charge refund "
    "transfer withdraw payout purchase buy sell trade grant impersonate execute exec eval run shell sudo deploy "
    "shutdown reboot restart uninstall format overwrite rollback deactivate suspend expire escalate sign"
)
# Things so sensitive that changing them is dangerous, and those where even seeing is
_GRAVE = _list(
    "payment payments payout payouts transfer transfers invoice invoices refund refunds admin admins permission "
    "permissions role roles policy policies account accounts billing bank wire payroll salary finance firewall "
    "production prod database command commands script sql code "
    "batch bulk graphql rpc proxy webhook webhooks"  # one call that stands for any other, or reaches any address
)
_SECRET = _list(
    "secret secrets credential credentials password passwords passwd token tokens key keys apikey apikeys env "
    "environment vault certificate certificates"
)
_METHOD_RISK = {"GET": READ, "HEAD": READ, "QUERY": READ, "POST": CHANGE, "PUT": CHANGE, "PATCH": CHANGE}
_METHOD_VERB = {"POST": "add", "PUT": "change", "PATCH": "change", "DELETE": "delete"}
_SEEN_AS = _list("get list see read find show fetch view describe browse search query lookup count download watch")
_WORDS = re.compile(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z]+|[A-Z]+|[0-9]+")
_VERSION = re.compile(r"v?[0-9]+\Z")


@dataclass(slots=True)
class SuggestedScope:
    name: str  # rooms:book
    words: str  # "Book a room"
    risk: str
    keys: list[str] = field(default_factory=list)  # of the operations that it would hold


def suggest(operations: Iterable[DraftOperation]) -> list[SuggestedScope]:
    """Scopes for these operations, each in exactly one; what is alike shares a scope, reading before changing."""
    found: dict[str, SuggestedScope] = {}
    for operation in operations:
        risk = risk_of(operation)
        noun, verb, words = _in_words(operation)
        name = f"{noun}:{verb}"[:68]
        scope = found.get(name)
        if scope is not None and scope.risk != risk:
            # Never a dangerous operation behind harmless words: another risk is another scope
            name = f"{name}-{risk}"
            scope = found.get(name)
            words = f"{words} ({risk})"
        if scope is None:
            scope = found[name] = SuggestedScope(name, words[:120].strip(), risk)
        scope.keys.append(operation.key)
    return sorted(found.values(), key=lambda scope: (_RISING.index(scope.risk), scope.name))


def risk_of(operation: DraftOperation) -> str:
    """read, change or dangerous: by method and name, raised (never lowered) by what the server claims."""
    risk = _risk_of_tool(operation) if operation.tool else _risk_of_call(operation)
    if operation.says_destructive:
        return DANGEROUS
    if operation.says_read_only is False:
        return _higher(risk, CHANGE)
    return risk


def _risk_of_call(operation: DraftOperation) -> str:
    literals = [s for s in operation.path.split("/") if s and "{" not in s]
    tokens = [token for literal in literals for token in _tokens(literal)]
    named = _tokens(operation.name)
    risk = _METHOD_RISK.get(operation.method, DANGEROUS)
    if _DESTROYING & {*tokens, *named}:
        return DANGEROUS
    if risk == READ:
        # GET …/rooms/5/open: a state change behind a reading method
        if literals and (set(_tokens(literals[-1])[:1]) & (_CHANGING - {"order", "log", "post", "label", "tag"})):
            risk = CHANGE
        return DANGEROUS if _SECRET & set(tokens) else risk
    return DANGEROUS if (_GRAVE | _SECRET) & set(tokens) else risk


def _risk_of_tool(operation: DraftOperation) -> str:
    tokens = _tokens(operation.tool)
    said = set(tokens)
    if _DESTROYING & said or _SECRET & said:
        return DANGEROUS
    verb = _verb(tokens)
    if verb in _CHANGING:
        return DANGEROUS if _GRAVE & said else CHANGE
    if verb in _READING:
        return CHANGE if _CHANGING & said & {"write", "update", "create", "set", "send"} else READ
    return READ if operation.says_read_only and not _GRAVE & said else CHANGE


def _in_words(operation: DraftOperation) -> tuple[str, str, str]:
    """Noun and verb of the scope's name, and the sentence that a person reads."""
    return _tool_in_words(operation) if operation.tool else _call_in_words(operation)


def _call_in_words(operation: DraftOperation) -> tuple[str, str, str]:
    segments = [s for s in operation.path.split("/") if s and not (_VERSION.match(s) or s.lower() in ("api", "rest"))]
    literals = ["-".join(_tokens(s)) for s in segments if "{" not in s and _tokens(s)]
    verb = _METHOD_VERB.get(operation.method, "read")
    known = _READING | _CHANGING | _DESTROYING
    last = literals[-1].split("-")[0] if literals else ""
    if len(literals) > 1 and last in known and "{" not in segments[-1]:
        verb, literals = last, literals[:-1]
        if verb in _SEEN_AS:
            verb = "read"
    noun = literals[-1] if literals else "start"
    spoken = noun.replace("-", " ")
    if noun in known and verb != "delete":
        return noun, verb, noun.capitalize()  # /search
    if verb == "read":
        return noun, verb, f"See {spoken}"
    if len(literals) > 1 and verb == last and _is_named(segments, noun):
        # /rooms/meeting/enter: one particular thing of a collection
        return noun, verb, f"{verb.capitalize()} the {spoken} {_one(literals[-2].replace('-', ' '))}"
    return noun, verb, f"{verb.capitalize()} {_a(_one(spoken))}"


def _tool_in_words(operation: DraftOperation) -> tuple[str, str, str]:
    tokens = [token for token in _tokens(operation.tool) if token not in ("the", "a", "an", "all")]
    verb = _verb(tokens)
    rest = list(tokens)
    if verb in rest:
        rest.remove(verb)
    noun = "-".join(rest) or "server"
    spoken = " ".join(rest)
    if verb in _SEEN_AS:
        return noun, "read", f"See {spoken}" if spoken else "See what it offers"
    if not verb:
        return noun, "use", f"Use {spoken or 'a tool'}"
    return noun, verb, f"{verb.capitalize()} {_a(spoken)}" if spoken else verb.capitalize()


def _verb(tokens: list[str]) -> str:
    """The word that says what is done: the worst one, else the first one if it is known, else the last, else any."""
    known = _READING | _CHANGING
    worst = [token for token in tokens if token in _DESTROYING]
    candidates = [*tokens[:1], *tokens[-1:], *tokens]
    return next((token for token in [*worst, *candidates] if token in known | _DESTROYING), "")


def _is_named(segments: list[str], noun: str) -> bool:
    """Whether the thing before the verb is written out and stands behind a collection, also written out."""
    plain = ["" if "{" in s else "-".join(_tokens(s)) for s in segments]
    return len(plain) > 2 and plain[-2] == noun and bool(plain[-3]) and _one(plain[-3]) != plain[-3]


def _tokens(text: str) -> list[str]:
    return [word.lower() for word in _WORDS.findall(text[:200])]


def _one(word: str) -> str:
    """A plain English singular, good enough for a suggestion."""
    if word.endswith("ies") and len(word) > 4:
        return word[:-3] + "y"
    if re.search(r"(ss|us|is|news)\Z", word):
        return word
    if re.search(r"(x|ch|sh|ss|zz)es\Z", word):
        return word[:-2]
    return word[:-1] if word.endswith("s") and len(word) > 2 else word


def _a(spoken: str) -> str:
    if not spoken or spoken.endswith("s"):
        return spoken
    return f"{'an' if spoken[0] in 'aeio' else 'a'} {spoken}"


def _higher(one: str, other: str) -> str:
    return max(one, other, key=_RISING.index)
