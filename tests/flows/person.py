"""A person with a browser that has no scripts: follows links, fills in forms, presses buttons."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from html import unescape
from html.parser import HTMLParser
from typing import Any
from urllib.parse import urljoin, urlsplit

import httpx2


@dataclass
class Button:
    """What sends a form: its text, what it adds, and where it sends it instead."""

    text: str
    name: str
    value: str
    action: str
    method: str


@dataclass
class Form:
    """A form as a browser would send it: what is filled in, ticked or chosen, and the buttons that send it."""

    action: str
    method: str
    fields: list[tuple[str, str]] = field(default_factory=list)
    buttons: list[Button] = field(default_factory=list)
    boxes: set[str] = field(default_factory=set)  # names of checkboxes and radios, ticked or not
    text: str = ""
    enctype: str = ""

    def filled(self, answers: dict[str, Any], button: Button | None) -> list[tuple[str, str]]:
        kept = [(name, value) for name, value in self.fields if name not in answers]
        for name, value in answers.items():
            assert name in {n for n, _ in self.fields} | self.boxes, f"no field {name} in {sorted(self.names)}"
            values = value if isinstance(value, list) else [] if value is None else [value]
            kept += [(name, str(one)) for one in values]
        return kept + ([(button.name, button.value)] if button and button.name else [])

    @property
    def names(self) -> set[str]:
        return {name for name, _ in self.fields} | self.boxes


class _Forms(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.forms: list[Form] = []
        self._form: Form | None = None
        self._button: Button | None = None
        self._textarea: list[str] | None = None
        self._select: tuple[str, list[tuple[str, bool]]] | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        a = {name: value or "" for name, value in attrs}
        if tag == "form":
            self._form = Form(a.get("action", ""), a.get("method", "get").lower(), enctype=a.get("enctype", ""))
            self.forms.append(self._form)
        if self._form is None:
            return
        if tag == "input":
            kind = a.get("type", "text")
            if kind in ("checkbox", "radio"):
                self._form.boxes.add(a.get("name", ""))
                if "checked" in a:
                    self._form.fields.append((a["name"], a.get("value", "on")))
            elif kind == "file":
                self._form.boxes.add(a.get("name", ""))  # left empty
            elif kind in ("submit", "button"):
                self._form.buttons.append(_button(a, a.get("value", "")))
            elif a.get("name"):
                self._form.fields.append((a["name"], a.get("value", "")))
        elif tag == "button" and a.get("type", "submit") == "submit":
            self._button = _button(a, "")
        elif tag == "textarea":
            self._textarea = [a.get("name", ""), ""]
        elif tag == "select":
            self._select = (a.get("name", ""), [])
        elif tag == "option" and self._select:
            self._select[1].append((a.get("value", ""), "selected" in a))

    def handle_data(self, data: str) -> None:
        if self._form is not None:
            self._form.text += data
        if self._button is not None:
            self._button.text += data
        if self._textarea is not None:
            self._textarea[1] += data

    def handle_endtag(self, tag: str) -> None:
        if self._form is None:
            return
        if tag == "form":
            self._form = None
        elif tag == "button" and self._button:
            self._button.text = " ".join(self._button.text.split())
            self._form.buttons.append(self._button)
            self._button = None
        elif tag == "textarea" and self._textarea:
            self._form.fields.append((self._textarea[0], self._textarea[1].removeprefix("\n")))
            self._textarea = None
        elif tag == "select" and self._select:
            name, options = self._select
            chosen = [value for value, selected in options if selected] or [value for value, _ in options[:1]]
            self._form.fields += [(name, value) for value in chosen]
            self._select = None


def _button(a: dict[str, str], text: str) -> Button:
    return Button(text, a.get("name", ""), a.get("value", ""), a.get("formaction", ""), a.get("formmethod", ""))


class Person:
    """One browser session. `page` is the last answer; a redirect is followed within our own origin only."""

    def __init__(self, base_url: str) -> None:
        self.base_url = base_url
        self.http = httpx2.Client(follow_redirects=False, timeout=30)
        self.page: httpx2.Response

    def sign_in(self, email: str, password: str) -> Person:
        self.open("/account/login/")
        self.press("Sign in", login=email, password=password)
        assert self.page.status_code == 200 and "/account/login" not in str(self.page.url), self.words
        return self

    @property
    def words(self) -> str:
        """What the page says, without its markup: for reading when something is not as expected."""
        main = self.page.text.partition("<main")[2] or self.page.text
        return " ".join(unescape(re.sub(r"<[^>]*>", " ", main)).split())[:3000]

    def open(self, url: str) -> httpx2.Response:
        return self._follow(self.http.get(urljoin(self.base_url, url)))

    def forms(self) -> list[Form]:
        parser = _Forms()
        parser.feed(self.page.text)
        return parser.forms

    def form(self, button: str) -> tuple[Form, Button]:
        """The first form with a button whose text begins so, and that button."""
        for form in self.forms():
            for one in form.buttons:
                if one.text.startswith(button):
                    return form, one
        found = [one.text for form in self.forms() for one in form.buttons]
        raise AssertionError(f"no button {button!r} on {self.page.url}, only {found}")

    def press(self, text: str, /, **answers: Any) -> httpx2.Response:
        """Fill in and press. A list gives several values of one name, None unticks."""
        form, button = self.form(text)
        return self.send(form, answers, button)

    def send(self, form: Form, answers: dict[str, Any], button: Button | None = None) -> httpx2.Response:
        url = urljoin(str(self.page.url), button.action if button and button.action else form.action)
        filled = form.filled(answers, button)
        if (button.method if button and button.method else form.method) == "get":
            return self._follow(self.http.get(url, params=httpx2.QueryParams([*filled])))
        data: dict[str, list[str]] = {}
        for name, value in filled:
            data.setdefault(name, []).append(value)
        headers = {"Origin": self.base_url, "Referer": str(self.page.url)}
        if form.enctype == "multipart/form-data":
            parts = [(name, (None, value)) for name, values in data.items() for value in values]
            return self._follow(self.http.post(url, files=parts, headers=headers))
        return self._follow(self.http.post(url, data=data, headers=headers))

    def answer(self, url: str, /, press: str = "Allow", **ticks: Any) -> str:
        """Open what a client sends here, answer if asked; the address at which the browser leaves the house again."""
        self.open(url)
        if not self.page.is_redirect:
            self.press(press, **ticks)
        assert self.page.is_redirect, self.words
        address: str = self.page.headers["location"]
        return address

    def _follow(self, response: httpx2.Response) -> httpx2.Response:
        hops = 0
        while response.is_redirect:
            target = urljoin(str(response.url), response.headers["location"])
            if urlsplit(target)[:2] != urlsplit(self.base_url)[:2]:
                break  # out of the house: to an agent's own address
            hops += 1
            assert hops < 10, f"redirect loop at {target}"
            response = self.http.get(target)
        self.page = response
        return response
