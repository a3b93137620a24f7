"""An entry of the directory as a person, and the immutable id between its two spellings."""

from __future__ import annotations

import base64
import binascii
import uuid
from typing import Final

from broker.adapters.directory.config import DirectoryConfig, DirectorySchema
from broker.adapters.directory.messages import Entry, Filter, equals
from broker.core.errors import LoginCause
from broker.core.principal import Principal

_ID_OCTETS: Final = 16
_BASE32_PADDING: Final = "======"
_OBJECT_GUID: Final = "objectguid"
_NS_UNIQUE_ID: Final = "nsuniqueid"


class EntryUnusable(ValueError):
    """An entry lacks what makes it a person of ours; the text names the attribute, not the value.

    Attributes:
        cause: for the audit.
    """

    def __init__(self, why: str, cause: LoginCause = LoginCause.REFUSED_BY_DIRECTORY) -> None:
        super().__init__(why)
        self.cause = cause


def person_attributes(schema: DirectorySchema, config: DirectoryConfig) -> tuple[str, ...]:
    """What has to be read of a person."""
    names = (
        schema.id_attribute,
        schema.username_attribute,
        schema.display_name_attribute,
        *config.attributes.values(),
    )
    return tuple(dict.fromkeys(names))


def principal_of(entry: Entry, config: DirectoryConfig) -> Principal:
    """The person of an entry, without groups. A mapped attribute that is not text counts as missing.

    Raises:
        EntryUnusable: the username or the id is missing, has several values or is malformed.
    """
    schema = config.schema
    username = entry.text(schema.username_attribute)
    if not username:
        raise EntryUnusable(f"{schema.username_attribute} needs exactly one value")
    return Principal(
        id=principal_id(entry, schema),
        username=username,
        display_name=next(iter(entry.texts(schema.display_name_attribute)), username),
        attributes={ours: values for ours, theirs in config.attributes.items() if (values := entry.texts(theirs))},
    )


def principal_id(entry: Entry, schema: DirectorySchema) -> str:
    """The immutable id: base32 of the 16 octets of the GUID, as Active Directory stores them.

    Raises:
        EntryUnusable: it is not there, or not a UUID.
    """
    values = entry.octets(schema.id_attribute)
    if len(values) != 1:
        raise EntryUnusable(f"{schema.id_attribute} needs exactly one value: may the service account read it?")
    octets = values[0]
    if schema.id_attribute.lower() != _OBJECT_GUID:
        try:
            octets = bytes.fromhex(octets.decode("ascii").replace("-", ""))
        except ValueError as error:
            raise EntryUnusable(f"{schema.id_attribute} is not a UUID") from error
    if len(octets) != _ID_OCTETS:
        raise EntryUnusable(f"{schema.id_attribute} is not a UUID")
    return base64.b32encode(octets).decode("ascii").rstrip("=")


def id_filter(wanted: str, schema: DirectorySchema) -> Filter | None:
    """The search for that id; None when it can be nobody's."""
    try:
        octets = base64.b32decode(wanted + _BASE32_PADDING)
    except (binascii.Error, ValueError):
        return None
    if len(octets) != _ID_OCTETS or base64.b32encode(octets).decode("ascii").rstrip("=") != wanted:
        return None
    attribute = schema.id_attribute.lower()
    if attribute == _OBJECT_GUID:
        return equals(schema.id_attribute, octets)
    if attribute == _NS_UNIQUE_ID:
        digits = octets.hex()
        return equals(schema.id_attribute, "-".join(digits[start : start + 8] for start in range(0, 32, 8)))
    return equals(schema.id_attribute, str(uuid.UUID(bytes=octets)))
