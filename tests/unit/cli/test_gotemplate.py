"""Go templates: what each construct prints."""

import pytest

from minidock.cli.gotemplate import Template, TemplateError

DATA = {
    "Name": "web",
    "State": {"Pid": 7, "Running": True},
    "Args": ["a", "b"],
    "Labels": {"y": "2", "x": "1"},
    "None": None,
    "Empty": [],
}


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        ("{{.Name}}", "web"),
        ("{{.State.Pid}} {{.State.Running}}", "7 true"),
        ("{{json .Args}}", '["a","b"]'),
        ("{{.Args}} {{.Labels}}", "[a b] map[x:1 y:2]"),
        ("{{.Missing}}", "<no value>"),
        ("{{range .Args}}<{{.}}>{{end}}", "<a><b>"),
        ("{{range $i, $a := .Args}}{{$i}}={{$a}} {{end}}", "0=a 1=b "),
        ("{{range $k, $v := .Labels}}{{$k}}{{$v}}{{end}}", "x1y2"),
        ("{{range .Empty}}x{{else}}none{{end}}", "none"),
        ("{{if .State.Running}}up{{else}}down{{end}}", "up"),
        ("{{if eq .Name `x`}}1{{else if eq .Name `web`}}2{{end}}", "2"),
        ("{{with .State}}{{.Pid}}{{end}}", "7"),
        ("{{index .Args 1}} {{index .Labels `x`}}", "b 1"),
        ("{{.Name | upper}} {{upper .Name}}", "WEB WEB"),
        ('{{join .Args ","}} {{len .Args}}', "a,b 2"),
        ('{{printf "%s-%d" .Name 3}}', "web-3"),
        ("{{$x := .Name}}{{$x}}", "web"),
        ("a {{- .Name -}} b", "awebb"),
        ("{{/* nothing */}}x", "x"),
        ("{{and .Name (not .Empty)}}", "true"),
        ("{{println .Name}}", "web\n"),
    ],
)
def test_template(text: str, printed: str) -> None:
    assert Template(text).render(DATA) == printed


@pytest.mark.parametrize(
    "text", ["{{.Name", "{{end}}", "{{if .Name}}", "{{nope .Name}}", "{{.Name.X}}"]
)
def test_bad_template(text: str) -> None:
    with pytest.raises(TemplateError):
        Template(text).render(DATA)
