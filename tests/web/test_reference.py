from docs import render


def test_the_pages_under_docs_are_current():
    written = {file.name: file.read_text() for file in render.FOLDER.glob("*.md")}
    assert written == render.pages(), "make reference"


def test_every_message_refers_to_a_type_that_is_on_its_page():
    for page in render.pages().values():
        headings = {line.lstrip("# ").lower() for line in page.splitlines() if line.startswith("###")}
        links = {part.split(")")[0] for part in page.split("](#")[1:]}
        assert links <= headings
