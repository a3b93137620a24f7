"""The AWS SDK without the operator's own settings."""

from __future__ import annotations

import os

import boto3
import botocore.session


def sdk_session() -> boto3.Session:
    """A session that knows no profile, no settings and no credentials of the operator's: they are not the broker's."""
    # Said to the store itself, since Session.set_config_variable() asks the environment again where the value is None.
    session = botocore.session.Session()
    store = session.get_component("config_store")
    store.set_config_variable("profile", None)
    store.set_config_variable("config_file", os.devnull)
    store.set_config_variable("credentials_file", os.devnull)
    return boto3.Session(botocore_session=session)
