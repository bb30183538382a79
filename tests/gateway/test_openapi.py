"""The OpenAPI that the app writes, held to what Friendli's schema says of `containerImagesEdit`, field by field."""

from typing import Any

import pytest

from gateway.main import create_app
from gateway.settings import Settings

STRING_OR_NULL = ({"type": "string"}, {"type": "null"})
FIELDS: dict[str, tuple[tuple[dict[str, Any], ...], Any]] = {
    "image": (({"$ref": "ImageInput"}, {"type": "array", "items": {"$ref": "ImageInput"}}), None),
    "prompt": (({"type": "string"},), None),
    "model": (STRING_OR_NULL, None),
    # Friendli's schema does not have null for these two; here it is as good as left out.
    "num_inference_steps": (({"type": "integer"}, {"type": "null"}), 20),
    "guidance_scale": (({"type": "number"}, {"type": "null"}), 0),
    "seed": (({"type": "integer"}, {"type": "null"}), None),
    "response_format": (({"type": "string", "enum": ["raw", "jpeg"]}, {"type": "null"}), "jpeg"),
}


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    return create_app(Settings()).openapi()


def _types(field: dict[str, Any]) -> tuple[dict[str, Any], ...]:
    """The alternatives of a field without bounds and texts, references by their last name."""
    kept = {"type", "enum", "items", "$ref"}
    found = []
    for one in field.get("anyOf", [field]):
        if one.get("x-extension") and one is not field:
            continue
        bare = {key: value for key, value in one.items() if key in kept}
        bare = {key: _types(value)[0] if key == "items" else value for key, value in bare.items()}
        found.append(bare | ({"$ref": bare["$ref"].rsplit("/", 1)[1]} if "$ref" in bare else {}))
    return tuple(found)


def test_the_operation(schema: dict[str, Any]) -> None:
    assert schema["openapi"].startswith("3.1")
    operation = schema["paths"]["/v1/images/edits"]["post"]
    assert operation["operationId"] == "containerImagesEdit"
    assert operation["summary"] == "Image edits"
    assert operation["tags"] == ["Container.Image"]
    assert operation["requestBody"]["required"] is True
    json = operation["requestBody"]["content"]["application/json"]["schema"]
    friendlis, openais = (schema["components"]["schemas"][one["$ref"].rsplit("/", 1)[1]] for one in json["anyOf"])
    assert friendlis["title"] == "ContainerImageEditBody"
    assert openais["x-extension"]
    assert {"200", "422"} <= operation["responses"].keys()


def test_the_fields(schema: dict[str, Any]) -> None:
    body = schema["components"]["schemas"]["ContainerImageEditBody"]
    assert sorted(body["required"]) == ["image", "prompt"]
    ours = {name: field for name, field in body["properties"].items() if not field.get("x-extension")}
    assert {name: (_types(field), field.get("default")) for name, field in ours.items()} == FIELDS
    assert {name for name, field in ours.items() if "default" in field} == {
        name for name, (_, default) in FIELDS.items() if default is not None
    }
    picture = schema["components"]["schemas"]["ImageInput"]
    assert (picture["required"], _types(picture["properties"]["image"])) == (["image"], ({"type": "string"},))


def test_the_answer(schema: dict[str, Any]) -> None:
    answer = schema["components"]["schemas"]["ContainerImageEditSuccess"]
    assert answer["required"] == ["image"]
    image = answer["properties"].pop("image")
    assert (image["type"], image["format"]) == ("string", "binary")
    assert all(field["x-extension"] for field in answer["properties"].values())


def test_generations(schema: dict[str, Any]) -> None:
    operation = schema["paths"]["/v1/images/generations"]["post"]
    assert operation["operationId"] == "containerImagesGenerate"
    assert (operation["summary"], operation["tags"]) == ("Image generations", ["Container.Image"])
    assert operation["requestBody"]["content"].keys() == {"application/json"}
    assert {"200", "404", "422"} <= operation["responses"].keys()
    assert "generations_unavailable" in operation["responses"]["404"]["description"]
    body = schema["components"]["schemas"]["ContainerImageGenerationBody"]
    assert body["required"] == ["prompt"]
    theirs = {name: field for name, field in FIELDS.items() if name != "image"}
    ours = {name: field for name, field in body["properties"].items() if not field.get("x-extension")}
    assert {name: (_types(field), field.get("default")) for name, field in ours.items()} == theirs
    assert schema["components"]["schemas"]["ContainerImageGenerateSuccess"]["required"] == ["image"]


@pytest.mark.parametrize("path", ["/v1/images/edits", "/v1/images/generations"])
def test_the_headers(schema: dict[str, Any], path: str) -> None:
    headers = {one["name"]: one for one in schema["paths"][path]["post"]["parameters"]}
    assert headers.keys() == {"X-Priority", "Idempotency-Key"}
    assert all(one["in"] == "header" and not one["required"] for one in headers.values())


@pytest.mark.parametrize(("settings", "ways"), [({}, [{"bearer": []}, {}]), ({"api_keys": "k"}, [{"bearer": []}])])
def test_what_may_be_401_says_how_a_token_is_told(settings: dict[str, str], ways: list[Any]) -> None:
    schema = create_app(Settings(**settings)).openapi()
    operations = [one for path in schema["paths"].values() for one in path.values()]
    for operation in operations:
        assert ("401" in operation["responses"]) == ("security" in operation)
        assert operation.get("security", ways) == ways
    assert sum("security" in operation for operation in operations) == 4
    assert schema["components"]["securitySchemes"] == {"bearer": {"type": "http", "scheme": "bearer"}}


def test_the_models_may_be_unavailable(schema: dict[str, Any]) -> None:
    assert schema["paths"]["/v1/models"]["get"]["responses"].keys() == {"200", "401", "503"}
    assert schema["paths"]["/v1/models/{name}"]["get"]["responses"].keys() == {"200", "401", "404", "503"}


def test_every_reference_leads_somewhere(schema: dict[str, Any]) -> None:
    import re

    found = set(re.findall(r"#/components/schemas/(\w+)", str(schema)))
    assert found <= schema["components"]["schemas"].keys()
