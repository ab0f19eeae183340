"""Writes chats as WhatsApp exports them, in the ways of many languages, and says what it wrote.

writer = WRITERS["iphone german"]
lines = [Line(datetime(2024, 1, 6, 14, 5, 37), "Anna", file="00000012-AUDIO-2024-01-06-14-05-37.opus")]
writer.text(lines)          # the bytes of _chat.txt
zipped(writer, "Family", lines, {"00000012-AUDIO-2024-01-06-14-05-37.opus": data})
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

LRM, RLM, NARROW, NO_BREAK = "\u200e", "\u200f", "\u202f", "\u00a0"
_ARABIC = str.maketrans("0123456789", "٠١٢٣٤٥٦٧٨٩")
_DEVANAGARI = str.maketrans("0123456789", "०१२३४५६७८९")


@dataclass(frozen=True)
class Line:
    """One message: words, or a file by its name, or audio that was left out. Without author it is what the app says."""

    sent: datetime
    author: str | None
    words: str = ""
    file: str | None = None
    omitted: bool = False


@dataclass(frozen=True)
class Writer:
    """How one phone in one language writes. In `head`, {d} {m} {h} are as short as can be, {dd} {mm} {HH} {hh} have two digits."""

    phone: str
    head: str
    attached: str
    omitted: str
    title: str
    halves: tuple[str, str] = ("", "")
    digits: dict[int, int] | None = None
    years_ahead: int = 0

    @property
    def seconds(self) -> bool:
        """Whether its times have seconds."""
        return "{SS}" in self.head

    @property
    def text_name(self) -> str:
        """What it calls the text; {} stands for the chat."""
        return "_chat.txt" if self.phone == "iphone" else self.title + ".txt"

    def beginning(self, sent: datetime) -> str:
        """What stands before the author."""
        year = sent.year + self.years_ahead
        text = self.head.format(
            d=sent.day, dd=f"{sent.day:02}", m=sent.month, mm=f"{sent.month:02}", yyyy=year, yy=f"{year % 100:02}",
            H=sent.hour, HH=f"{sent.hour:02}", h=(sent.hour + 11) % 12 + 1, hh=f"{(sent.hour + 11) % 12 + 1:02}",
            MM=f"{sent.minute:02}", SS=f"{sent.second:02}", half=self.halves[sent.hour >= 12],
        )  # fmt: skip
        return text.translate(self.digits) if self.digits else text

    def line(self, line: Line) -> str:
        """A message, over one line or more."""
        body = line.words
        if line.omitted:
            body = self.omitted
        elif line.file is not None:
            body = self.attached.format(name=line.file)
        return self.beginning(line.sent) + (f"{line.author}: {body}" if line.author is not None else body)

    def text(self, lines: Sequence[Line], *, ends: str = "\n", mark: str = "") -> bytes:
        """The whole text. `ends` ends each line, `mark` may be a byte order mark."""
        return (mark + "".join(self.line(line) + "\n" for line in lines).replace("\n", ends)).encode()


WRITERS = {
    "iphone us": Writer(
        "iphone", "[{m}/{d}/{yy}, {h}:{MM}:{SS}" + NARROW + "{half}] ", LRM + "<attached: {name}>", LRM + "audio omitted",
        "WhatsApp Chat - {}", ("AM", "PM"),
    ),
    "iphone british": Writer(
        "iphone", "[{dd}/{mm}/{yyyy}, {HH}:{MM}:{SS}] ", LRM + "<attached: {name}>", LRM + "audio omitted", "WhatsApp Chat - {}"
    ),
    "iphone german": Writer(
        "iphone", "[{dd}.{mm}.{yy}, {HH}:{MM}:{SS}] ", LRM + "<Anhang: {name}>", LRM + "Audio weggelassen", "WhatsApp Chat - {}"
    ),
    "iphone french": Writer(
        "iphone", "[{dd}/{mm}/{yyyy} {HH}:{MM}:{SS}] ", LRM + "<pièce jointe : {name}>", LRM + "audio omis", "WhatsApp Chat - {}"
    ),
    "iphone spanish": Writer(
        "iphone", "[{d}/{m}/{yy}, {H}:{MM}:{SS}] ", LRM + "<adjunto: {name}>", LRM + "audio omitido", "Chat de WhatsApp - {}"
    ),
    "iphone brazilian": Writer(
        "iphone", "[{dd}/{mm}/{yy}, {HH}:{MM}:{SS}] ", LRM + "<anexado: {name}>", LRM + "áudio ocultado", "Conversa do WhatsApp - {}"
    ),
    "iphone italian": Writer(
        "iphone", "[{dd}/{mm}/{yy}, {HH}:{MM}:{SS}] ", LRM + "<allegato: {name}>", LRM + "audio omesso", "WhatsApp Chat - {}"
    ),
    "iphone turkish": Writer(
        "iphone", "[{d}.{mm}.{yyyy} {HH}:{MM}:{SS}] ", LRM + "<{name} eklendi>", LRM + "ses dahil edilmedi", "WhatsApp Sohbeti - {}"
    ),
    "iphone dutch": Writer(
        "iphone", "[{dd}-{mm}-{yyyy} {HH}:{MM}:{SS}] ", LRM + "<bijgevoegd: {name}>", LRM + "audio weggelaten", "WhatsApp-chat - {}"
    ),
    "iphone swedish": Writer(
        "iphone", "[{yyyy}-{mm}-{dd}, {HH}:{MM}:{SS}] ", LRM + "<bifogad: {name}>", LRM + "audio utelämnat", "WhatsApp-chatt - {}"
    ),
    "iphone chinese": Writer(
        "iphone", LRM + "[{yyyy}/{m}/{d} {half}{h}:{MM}:{SS}] ", LRM + "<附件：{name}>", LRM + "audio omitted", "WhatsApp Chat - {}",
        ("上午", "下午"),
    ),
    "iphone japanese": Writer(
        "iphone", "[{yyyy}/{mm}/{dd} {H}:{MM}:{SS}] ", LRM + "<添付ファイル: {name}>", LRM + "audio omitted", "WhatsApp Chat - {}"
    ),
    "iphone korean": Writer(
        "iphone", "[{yyyy}. {m}. {d}. {half} {h}:{MM}:{SS}] ", LRM + "<첨부됨: {name}>", LRM + "audio omitted", "WhatsApp Chat - {}",
        ("오전", "오후"),
    ),
    "iphone korean, short year": Writer(
        "iphone", "[{yy}. {m}. {d}. {half} {h}:{MM}:{SS}] ", LRM + "<첨부됨: {name}>", LRM + "audio omitted", "WhatsApp Chat - {}",
        ("오전", "오후"),
    ),
    "iphone arabic": Writer(
        "iphone", "[{d}" + RLM + "/{m}" + RLM + "/{yyyy}، {h}:{MM}:{SS}" + NARROW + "{half}] ", LRM + "<المُرفق: " + LRM + "{name}>",
        LRM + "audio omitted", "WhatsApp Chat - {}", ("ص", "م"), _ARABIC,
    ),
    "iphone greek": Writer(
        "iphone", "[{d}/{m}/{yy}, {h}:{MM}:{SS} {half}] ", LRM + "<επισυνάφθηκε: {name}>", LRM + "audio omitted", "WhatsApp Chat - {}",
        ("π.μ.", "μ.μ."),
    ),
    "iphone thai": Writer(
        "iphone", "[{d}/{m}/{yyyy} {HH}:{MM}:{SS}] ", LRM + "<แนบ: {name}>", LRM + "audio omitted", "WhatsApp Chat - {}", years_ahead=543
    ),
    "android us": Writer(
        "android", "{m}/{d}/{yy}, {h}:{MM}" + NARROW + "{half} - ", LRM + "{name} (file attached)", "<Media omitted>",
        "WhatsApp Chat with {}", ("AM", "PM"),
    ),
    "android indian": Writer(
        "android", "{dd}/{mm}/{yy}, {h}:{MM} {half} - ", "{name} (file attached)", "<Media omitted>", "WhatsApp Chat with {}", ("am", "pm")
    ),
    "android hindi": Writer(
        "android", "{dd}/{mm}/{yyyy}, {h}:{MM} {half} - ", "{name} (फ़ाइल संलग्न है)", "<Media omitted>", "WhatsApp Chat with {}", ("am", "pm"),
        _DEVANAGARI,
    ),
    "android german": Writer(
        "android", "{dd}.{mm}.{yy}, {HH}:{MM} - ", LRM + "{name} (Datei angehängt)", "<Medien ausgeschlossen>", "WhatsApp Chat mit {}"
    ),
    "android spanish": Writer(
        "android", "{d}/{m}/{yy}, {h}:{MM} {half} - ", LRM + "{name} (archivo adjunto)", "<Multimedia omitido>", "Chat de WhatsApp con {}",
        ("a." + NO_BREAK + "m.", "p." + NO_BREAK + "m."),
    ),
    "android brazilian": Writer(
        "android", "{dd}/{mm}/{yyyy} {HH}:{MM} - ", LRM + "{name} (arquivo anexado)", "<Mídia oculta>", "Conversa do WhatsApp com {}"
    ),
    "android french": Writer(
        "android", "{dd}/{mm}/{yyyy} à {HH}:{MM} - ", LRM + "{name} (fichier joint)", "<Médias omis>", "Discussion WhatsApp avec {}"
    ),
    "android finnish": Writer(
        "android", "{d}.{m}.{yyyy} klo {HH}.{MM} - ", "{name} (tiedosto liitetty)", "<Media omitted>", "WhatsApp-keskustelu - {}"
    ),
    "android czech": Writer(
        "android", "{d}. {m}. {yyyy}. {H}:{MM} - ", "{name} (soubor byl přiložen)", "<Media omitted>", "WhatsApp Chat with {}"
    ),
    "android russian": Writer(
        "android", "{dd}.{mm}.{yyyy}, {HH}:{MM} - ", LRM + "{name} (файл добавлен)", "<Без медиафайлов>", "Чат WhatsApp с {}"
    ),
    "android hungarian": Writer(
        "android", "{yyyy}. {mm}. {dd}. {half} {h}:{MM} - ", "{name} (csatolva)", "<Media omitted>", "WhatsApp Chat with {}", ("de.", "du.")
    ),
    "android chinese": Writer(
        "android", "{yyyy}/{m}/{d} {half}{h}:{MM} - ", "{name} (附件)", "<Media omitted>", "WhatsApp Chat with {}", ("上午", "下午")
    ),
    "android tamil": Writer(
        "android", "{d}/{m}/{yyyy}, {half} {h}:{MM} - ", "{name} (கோப்பு இணைக்கப்பட்டுள்ளது)", "<Media omitted>", "WhatsApp Chat with {}",
        ("முற்பகல்", "பிற்பகல்"),
    ),
    "android, sizes": Writer(
        "android", "{dd}/{mm}/{yyyy}, {HH}:{MM} - ", "{name} (file attached) (3 KB)", "<Media omitted>", "WhatsApp Chat with {}"
    ),
    "old": Writer(
        "old", "{dd}/{mm}/{yyyy} {HH}:{MM}:{SS}: ", "{name} <" + LRM + "attached>", LRM + "audio omitted", "WhatsApp Chat with {}"
    ),
}  # fmt: skip
"""By phone and language; each writes dates, times, marks and files in another way."""


def voice_name(writer: Writer, sent: datetime, number: int) -> str:
    """A voice note's file name as that phone gives it."""
    if writer.phone == "iphone":
        return f"{number:08}-AUDIO-{sent:%Y-%m-%d-%H-%M-%S}.opus"
    if writer.phone == "old":
        return f"{sent:%Y-%m-%d}-AUDIO-{number:08}.m4a"
    return f"PTT-{sent:%Y%m%d}-WA{number:04}.opus"


def packed(files: Mapping[str, bytes], *, stamp: datetime = datetime(2026, 3, 1), deflated: bool = True) -> bytes:
    """A zip of these files, in this order."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED if deflated else zipfile.ZIP_STORED) as archive:
        for name, data in files.items():
            archive.writestr(zipfile.ZipInfo(name, stamp.timetuple()[:6]), data, archive.compression)
    return out.getvalue()


def zipped(writer: Writer, title: str, lines: Sequence[Line], files: Mapping[str, bytes]) -> tuple[str, bytes]:
    """(file name, content) of an export as the app shares it."""
    text = {writer.text_name.format(title): writer.text(lines)}
    return writer.title.format(title) + ".zip", packed({**text, **files})


def unpacked(folder: Path, writer: Writer, title: str, lines: Sequence[Line], files: Mapping[str, bytes]) -> None:
    """The same as a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / writer.text_name.format(title)).write_bytes(writer.text(lines))
    for name, data in files.items():
        (folder / name).write_bytes(data)
