"""All that counts once."""

from __future__ import annotations

from collections.abc import Callable

from tests.races.approvals import OneCalls
from tests.races.codes import Codes, PushedRequests
from tests.races.harness import Kind
from tests.races.pages import ConsentForms, Invitations, SignInLinks
from tests.races.proofs import ClientAssertions, IdJags, ProofsForCalls, ProofsForTokens
from tests.races.refreshing import RefreshTokens, RotatedOnce
from tests.races.scene import Scene
from tests.races.waiting import AskedQuestions, DeviceCodes

KINDS: dict[str, Callable[[Scene], Kind]] = {
    "code": Codes,
    "refresh": RefreshTokens,
    "refresh-lane": RotatedOnce,
    "par": PushedRequests,
    "device": DeviceCodes,
    "ciba": AskedQuestions,
    "assertion": ClientAssertions,
    "proof": ProofsForTokens,
    "gateway-proof": ProofsForCalls,
    "id-jag": IdJags,
    "consent": ConsentForms,
    "invitation": Invitations,
    "sign-in-link": SignInLinks,
    "approval": OneCalls,
}
