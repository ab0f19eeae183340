"""The prompt on a trusted device, as the browser sees it: steps at idmsa, each answered through the push service."""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING, Any

from tests.destinations.apple_cloud.sealed import Device
from tests.destinations.apple_cloud.wire import Answer, Request, said, token

if TYPE_CHECKING:
    from tests.destinations.apple_cloud.account import SignIn
    from tests.destinations.apple_cloud.sign_in import SignInDesk


class Bridge:
    """Prompts under way, by the browser's own name for them."""

    def __init__(self, desk: SignInDesk) -> None:
        self.desk = desk
        self._devices: dict[str, Device] = {}
        self.routes = {
            ("POST", "/bridge/step/0"): self._start,
            ("POST", "/bridge/step/2"): self._share,
            ("POST", "/bridge/step/4"): self._proof,
            ("POST", "/bridge/step/6"): lambda request, sign_in: said(204),
            ("POST", "/bridge/code/validate"): self._validate,
        }

    def _push(self, asked: dict[str, Any], **more: str) -> bool:
        message = {"sessionUUID": str(asked.get("sessionUUID")), "mid": "1", "idmsdata": "data of idmsa", "akdata": {"k": "v"}, **more}
        return self.desk.apple.push.deliver(str(asked.get("ptkn")), message)

    def _start(self, request: Request, sign_in: SignIn) -> Answer:
        """The browser is connected to the push service, and waits there for the prompt."""
        asked = request.fields()
        if not self.desk.wants_code(sign_in):
            return said(401, {})
        assert sign_in.account is not None
        if sign_in.account.push_service != "sealed":
            # A transaction that ends so: the code is typed into the browser, and idmsa verifies it.
            if not self._push(asked, nextStep="2", txnid=f"{token()}_W", salt="c2FsdA=="):
                return said(401, {})
            self.desk.send_code(sign_in, "push")
            return said(204)
        device = Device(self.desk.digits(), self.desk.digits())
        self._devices[str(asked.get("sessionUUID"))] = device
        if not self._push(asked, nextStep="2", txnid=f"{token()}_S", salt=base64.b64encode(device.salt).decode()):
            return said(401, {})
        self.desk.apple.prompted("push", sign_in.account, device.digits)
        return said(204)

    def _share(self, request: Request, sign_in: SignIn) -> Answer:
        asked = request.fields()
        try:
            device, share = self._devices[asked["sessionUUID"]], base64.b64decode(asked["data"])
            ours, proof = device.answer(share)
        except (KeyError, TypeError, ValueError, binascii.Error):
            return said(400, {})
        data = base64.b64encode(ours) + b"_" + base64.b64encode(proof)
        self._push(asked, nextStep="4", txnid=f"{token()}_S", data=base64.b64encode(data).decode())
        return said(204)

    def _proof(self, request: Request, sign_in: SignIn) -> Answer:
        asked = request.fields()
        try:
            sealed = self._devices[asked["sessionUUID"]].sealed_code(base64.b64decode(asked["data"]))
        except (KeyError, TypeError, binascii.Error):
            return said(400, {})
        if sealed is None:
            return said(412, {})
        self._push(asked, nextStep="6", txnid=f"{token()}_S", encryptedCode=sealed)
        return said(204)

    def _validate(self, request: Request, sign_in: SignIn) -> Answer:
        asked = request.fields()
        device = self._devices.pop(str(asked.get("sessionUUID")), None)
        if device is None or asked.get("code") != device.code or not self.desk.wants_code(sign_in):
            return said(412, {})
        return self.desk.verified(sign_in, device.code)
