"""Forms of what looks like their boundary, of which some is content and much is refused; and of files of nothing."""

import pytest

from gateway.errors import PublicError
from gateway.multipart import MAX_PADDING, MAX_PARTS, parts_of
from tests.gateway.asking import PNG, failure, post
from tests.gateway.fake_triton import FakeTriton
from tests.gateway.serving import Gateway

TYPE = "multipart/form-data; boundary=b"
PART = b'--b\r\nContent-Disposition: form-data; name="image"\r\n\r\n'
END = b"\r\n--b--\r\n"
TOO_MANY = "The form has too many parts."
BROKEN = "The body is not a well-formed form."


def form(content: bytes) -> bytes:
    return PART + content + END


@pytest.mark.parametrize("near", [b"\r\n--bx", b"\r\n--b-x", b"\r\n--b\rx"])
def test_what_is_nearly_a_boundary_is_content_as_often_as_forms_have_parts(near: bytes) -> None:
    (part,) = parts_of(form(near * MAX_PARTS), TYPE)
    assert part.content == near * MAX_PARTS
    with pytest.raises(PublicError) as error:
        parts_of(form(near * (MAX_PARTS + 1)), TYPE)
    assert (error.value.code, error.value.message) == ("body_unreadable", TOO_MANY)


def test_as_many_parts_as_there_may_be() -> None:
    assert len(parts_of(b"x\r\n".join([PART] * MAX_PARTS) + END, TYPE)) == MAX_PARTS
    with pytest.raises(PublicError, match="body_unreadable") as error:
        parts_of(b"x\r\n".join([PART] * (MAX_PARTS + 1)) + END, TYPE)
    assert error.value.message == TOO_MANY


@pytest.mark.parametrize("blank", [b" ", b"\t"])
def test_blanks_behind_a_boundary_are_few(blank: bytes) -> None:
    def padded(number: int) -> bytes:
        return form(b"x\r\n--b" + blank * number + PART[3:])

    assert len(parts_of(padded(MAX_PADDING - 1), TYPE)) == 2
    with pytest.raises(PublicError) as error:
        parts_of(padded(MAX_PADDING), TYPE)
    assert (error.value.code, error.value.message) == ("body_unreadable", BROKEN)


@pytest.mark.parametrize("kind", ["multipart/form-data", "multipart/form-data; boundary="])
def test_a_form_without_a_boundary_is_broken(kind: str) -> None:
    with pytest.raises(PublicError) as error:
        parts_of(form(b"\r\n--" * (MAX_PARTS + 2)), kind)
    assert error.value.message == BROKEN


def test_a_browsers_input_without_a_file_is_none(gateway: Gateway, triton: FakeTriton) -> None:
    nothing, fields = ("image", ("", b"")), {"prompt": "x"}
    assert post(gateway, files=[nothing, ("image", PNG)], data=fields).status_code == 200
    assert [*triton.requests[0].inputs[0].shape] == [1]
    answer = post(gateway, files=[nothing], data=fields)
    assert failure(answer) == (422, "parameter_invalid")
    assert answer.json()["detail"] == "image: give at least one file."
    empty = ("image", ("a.png", b""))
    assert failure(post(gateway, files=[empty, ("image", PNG)], data=fields)) == (422, "image_unreadable")
