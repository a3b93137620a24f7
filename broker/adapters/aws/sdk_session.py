"""The AWS SDK without the operator's own settings, and clients with an errand's credentials."""

from __future__ import annotations

import os
from datetime import timedelta
from typing import Any, Literal

import boto3
import botocore.session
from botocore.config import Config

from broker.core.credentials import Exchange


def sdk_session() -> boto3.Session:
    """A session that knows no profile, no settings and no credentials of the operator's: they are not the broker's."""
    # Said to the store itself, since Session.set_config_variable() asks the environment again where the value is None.
    session = botocore.session.Session()
    store = session.get_component("config_store")
    store.set_config_variable("profile", None)
    store.set_config_variable("config_file", os.devnull)
    store.set_config_variable("credentials_file", os.devnull)
    return boto3.Session(botocore_session=session)


def sdk_config(*, connect_timeout: timedelta, read_timeout: timedelta, proxy: str | None) -> Config:
    """How every client of ours calls.

    Args:
        connect_timeout: until a connection stands.
        read_timeout: until an answer is there.
        proxy: address of an HTTP proxy that tunnels (CONNECT) to AWS; None for none.
    """
    return Config(
        connect_timeout=connect_timeout.total_seconds(),
        read_timeout=read_timeout.total_seconds(),
        # Tries are made by whoever calls, in the open: botocore's own are not logged, counted or bounded as a whole.
        retries={"total_max_attempts": 1, "mode": "standard"},
        # Said, so that the environment has no say.
        proxies={"https": proxy} if proxy else {},
        defaults_mode="legacy",  # type: ignore[arg-type]  # the stubs take it for a flag
        use_fips_endpoint=False,
        use_dualstack_endpoint=False,
    )


def errand_client(
    service: Literal["iam", "s3"], exchange: Exchange, *, region: str, address: str, config: Config
) -> Any:
    """A client with the credentials of an errand; one for each, since they are.

    Args:
        service: as boto3 calls it.
        exchange: that gave the credentials.
        region: that requests are signed for.
        address: of the service.
        config: from :func:`sdk_config`.
    """
    credentials = exchange.credentials
    return sdk_session().client(
        service,
        region_name=region,
        endpoint_url=address,
        use_ssl=True,
        verify=True,
        config=config,
        aws_access_key_id=credentials.access_key_id,
        aws_secret_access_key=credentials.secret_access_key.reveal(),
        aws_session_token=credentials.session_token.reveal(),
    )
