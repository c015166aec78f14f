"""The file of users: what is kept, what is refused. Knows nothing of connections."""

import json
import stat

import pytest
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from sealmq.datafolder import DataFolder
from sealmq.errors import DataFolderError, Environment, NotSo, UsageError
from sealmq.pki import users
from sealmq.pki.users import User

PASSWORD = b"correct horse battery"


@pytest.fixture
def folder(tmp_path):
    return DataFolder.create_or_open(tmp_path / "data")


def user(name="anna", hashed="$argon2id$x"):
    return User(name, hashed, "2026-01-01T00:00:00Z")


def test_a_hash_verifies_and_has_a_salt_of_its_own():
    first, second = users.password_hash(PASSWORD), users.password_hash(PASSWORD)
    assert first.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    assert first != second
    Argon2id.verify_phc_encoded(PASSWORD, first)
    assert PASSWORD.decode() not in first


@pytest.mark.parametrize("password", [b"", b"short", b"x" * 11, b"x" * 1025])
def test_passwords_that_are_too_short_or_too_long(password):
    with pytest.raises(UsageError) as caught:
        users.password_hash(password)
    assert caught.value.code == "password-unfit"


def test_what_is_put_is_there_by_name_and_nobody_else_reads_it(folder):
    users.put(folder, user("zoe"), replace=False)
    users.put(folder, user("anna"), replace=False)
    assert [one.name for one in users.load(folder)] == ["anna", "zoe"]
    assert stat.S_IMODE((folder.path / "users.json").stat().st_mode) == 0o600
    assert users.for_engine(folder)[0] == {"name": "anna", "hash": "$argon2id$x"}
    assert "argon2id" not in repr(users.load(folder))


def test_a_user_is_replaced_only_when_asked_for(folder):
    users.put(folder, user(), replace=False)
    with pytest.raises(NotSo) as caught:
        users.put(folder, user(hashed="other"), replace=False)
    assert caught.value.code == "user-exists"
    users.put(folder, user(hashed="other"), replace=True)
    assert [one.hash for one in users.load(folder)] == ["other"]


def test_who_is_removed_is_gone(folder):
    users.put(folder, user(), replace=False)
    users.remove(folder, "anna")
    assert users.load(folder) == []
    with pytest.raises(NotSo) as caught:
        users.remove(folder, "anna")
    assert caught.value.code == "user-unknown"


@pytest.mark.parametrize("text", ["{", "[]", '{"users": [{"name": 1}]}', '{"users": 3}', "\xff"])
def test_a_damaged_file_is_an_error_and_not_a_broker_without_users(folder, text):
    path = folder.path / "users.json"
    path.write_text(text)
    path.chmod(0o600)
    with pytest.raises(DataFolderError) as caught:
        users.load(folder)
    assert caught.value.code == "users-damaged"


def test_a_file_that_others_can_read_is_refused(folder):
    users.put(folder, user(), replace=False)
    (folder.path / "users.json").chmod(0o644)
    with pytest.raises(Environment) as caught:
        users.load(folder)
    assert caught.value.code == "secret-exposed"


@pytest.mark.parametrize("name", ["", "a/b", "+", "#", "$x", "anonymous", "user", "a:b", "ä", "x" * 65, "a b"])
def test_names_that_cannot_stand_in_topics(name):
    with pytest.raises(UsageError):
        users.check_user_name(name)


def test_a_name_may_be_a_mail_address():
    assert users.check_user_name("anna.b@example.org") == "anna.b@example.org"


def test_the_file_is_json_for_a_backup_to_read(folder):
    users.put(folder, user(), replace=False)
    assert json.loads((folder.path / "users.json").read_text())["users"][0]["name"] == "anna"
