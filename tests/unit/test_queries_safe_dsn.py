"""A DSN can be shown without its password, and its errors never tell it."""

from __future__ import annotations

import traceback
from urllib.parse import quote, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from perfloop.adapters.connection import connect, safe_dsn
from perfloop.errors import InvalidInput

# libpq takes no NUL; surrogates cannot be encoded.
secrets = st.text(
    alphabet=st.characters(exclude_characters="\0", exclude_categories=("Cs",)), min_size=1, max_size=20
).map(lambda text: f"s3cr{text}et")


@given(secrets)
def test_a_password_in_a_uri_does_not_survive(secret):
    shown = safe_dsn(f"postgresql://ann:{quote(secret, safe='')}@db.example:5433/shop?sslmode=require")

    assert "postgresql://ann@db.example:5433/shop?sslmode=require" == shown


@given(secrets)
def test_a_password_in_key_value_form_does_not_survive(secret):
    shown = safe_dsn(make_conninfo("", user="ann", password=secret, host="db.example", sslpassword=secret))

    assert "user=ann host=db.example" == shown


@given(secrets, st.sampled_from(["password", "sslpassword"]))
def test_a_secret_among_the_query_parameters_does_not_survive(secret, name):
    shown = safe_dsn(f"postgresql://db.example/shop?{name}={quote(secret, safe='')}&connect_timeout=3")

    assert "postgresql://db.example/shop?connect_timeout=3" == shown


@given(
    st.from_regex(r"[A-Za-z0-9!#$%&'()*+,./:;<=>?@\[\]^_`{|}~ \"\\-]{1,12}", fullmatch=True),
    st.sampled_from(
        [
            "postgresql://ann:{0}@db.example/shop",
            "postgres://ann:{0}@/shop?host=/tmp",
            "host=db.example password={0} dbname=shop",
            "host=db.example password='{0}' dbname=shop",
            "postgresql://db.example/shop?password={0}",
        ],
    ),
)
def test_a_password_that_was_not_escaped_is_hidden_or_refused_without_being_told(middle, form):
    secret = f"pw7{middle}pw7"
    # Shorter pieces, as of a `middle` that is a letter of the rest, are in any text.
    parts = [part for part in secret.split(middle) if len(part) >= len("pw7")] or [secret]
    try:
        told = safe_dsn(form.format(secret))
    except InvalidInput as error:
        told = "".join(traceback.format_exception(error))

    assert not [part for part in parts if part in told]


@given(
    st.sampled_from(["ann", "a b", "ä@b"]),
    st.sampled_from([("/run/pg", "5433"), ("h1,h2", "5433,5434"), ("::1", "5433")]),
    st.text("ab/?#%@ é", max_size=5),
)
def test_all_else_stays_as_it_was(user, address, database):
    fields = {"user": user, "host": address[0], "port": address[1], "options": "-c a=b c"}
    fields |= {"dbname": database} if database else {}
    uri = f"postgresql://?{urlencode(fields, quote_via=quote)}"

    assert fields == conninfo_to_dict(safe_dsn(uri))
    assert fields == conninfo_to_dict(safe_dsn(make_conninfo("", **fields)))


@pytest.mark.parametrize(
    "dsn",
    [
        "host",
        "postgresql://ann:p@ss@db.example/shop",
        "postgresql://ann:p/ss@db.example/shop",
        "host=a colour=blue",
        "host=a password='open",
        "host=a\0b",
        "host=\udc80",
    ],
)
def test_a_dsn_that_cannot_be_read_is_invalid_input(dsn):
    with pytest.raises(InvalidInput, match="DSN"):
        connect(dsn, read_only=True)
