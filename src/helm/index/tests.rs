use super::super::Error;
use super::*;
use crate::class::Class;
use crate::memory_budget::Budget;
use crate::nesting::MAX_DEPTH;

mod memory;

const URL: &str = "https://charts.example/index.yaml";
const DIGEST: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

impl Index {
    /// Reads an index in memory.
    pub(in crate::helm) fn parse(url: &str, text: &[u8]) -> Result<Self, Error> {
        let mut reader = Reader::new(url, usize::MAX, results());
        reader.push(text)?;
        reader.finish()
    }

    fn names(&self) -> impl Iterator<Item = &str> {
        self.charts.keys().map(AsRef::as_ref)
    }
}

fn results() -> Results {
    Budget::new(2 << 30).results()
}

fn parsed_whole(text: &str) -> Result<Index, whole::Error> {
    let mut memory = results();
    let charts = whole::read(text.as_bytes(), &mut memory)?;
    Ok(Index::new(URL.into(), charts, memory))
}

fn index(text: &str) -> Index {
    Index::parse(URL, text.as_bytes()).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

/// Reads a chart from the whole text, byte by byte, and with Windows line ends; all must agree.
fn chart(text: &str, name: &str) -> ChartVersions {
    let read = index(text).chart(name).unwrap_or_else(|error| panic!("{error}\n{text}"));
    let mut reader = Reader::new(URL, usize::MAX, results());
    text.as_bytes().iter().for_each(|byte| reader.push(&[*byte]).unwrap());
    assert_eq!(reader.finish().unwrap().chart(name).unwrap(), read, "byte by byte\n{text}");
    let windows = text.replace('\n', "\r\n");
    assert_eq!(index(&windows).chart(name).unwrap(), read, "with CRLF\n{text}");
    let by_parser = parsed_whole(text).unwrap();
    assert_eq!(by_parser.chart(name).unwrap(), read, "parsed whole\n{text}");
    read
}

fn versions(read: &ChartVersions) -> Vec<&str> {
    read.versions.iter().map(|entry| entry.version.as_str()).collect()
}

#[test]
fn all_fields_of_an_entry_are_read() {
    let read = chart(
        &format!(
            "apiVersion: v1
entries:
  nginx:
  - annotations:
      category: Infrastructure
    apiVersion: v2
    appVersion: 1.10
    created: \"2024-01-01T00:00:00.123Z\"
    deprecated: true
    description: NGINX
    digest: {DIGEST}
    name: nginx
    type: library
    urls:
    - https://charts.example/nginx-1.2.3+a.tgz
    - oci://registry.example/nginx:1.2.3_a
    version: 1.2.3+a
generated: \"2024-01-01T00:00:00Z\"
"
        ),
        "nginx",
    );
    assert_eq!(
        read.versions,
        [Entry {
            chart: "nginx".into(),
            version: "1.2.3+a".into(),
            urls: vec![
                "https://charts.example/nginx-1.2.3+a.tgz".into(),
                "oci://registry.example/nginx:1.2.3_a".into()
            ],
            digest: Some(format!("sha256:{DIGEST}").parse().unwrap()),
            deprecated: true,
            app_version: Some("1.1".into()),
            kind: Some("library".into()),
        }]
    );

    assert_eq!(read.problems, []);
}

/// Each text lists `a` with 1.0.0 and 2.0.0 and something around it that could be taken for
/// structure.
#[test]
fn charts_are_found_in_every_shape_of_index() {
    const A: [&str; 2] =
        ["{name: a, version: 1.0.0, urls: [x]}", "{name: a, version: 2.0.0, urls: [x]}"];
    let [one, two] = A;

    for text in [
        format!("entries:\n  a:\n  - {one}\n  - {two}\n"),
        format!("entries:\n  a:\n    - {one}\n    - {two}\n  b: []\n"),
        format!("entries:\n a:\n - {one}\n - {two}\n b:\n - x: |\n    a:\n"),
        format!(
            "\u{feff}---\n# index\nentries: # all\n\n  # the chart\n  \
             \"a\": # one\n  # more\n  - {one}\n\n  - {two}\n"
        ),
        format!(
            "%YAML 1.1\n---\napiVersion: v1\ngenerated: now\nentries:\n  'a':\n  - {one}\n  - {two}"
        ),
        format!("entries:\n  a:\n  - {one}\n  - {two}\n...\nentries: {{}}\n"),
        format!("entries:\n  a:\n  - {one}\n  - {two}\n---\nentries: {{}}\n"),
        // Texts that look like keys.
        format!("entries:\n  b:\n  - description: |\n      text\n  a:\n  - {one}\n  - {two}\n"),
        format!(
            "entries:\n  b:\n  - description: |2\n        a:\n      - x\n  a:\n  - {one}\n  - {two}\n"
        ),
        format!(
            "entries:\n  b:\n  - description: |-\n\n     a:\n     - x\n\n    \
             name: b\n  a:\n  - {one}\n  - {two}\n"
        ),
        format!(
            "entries:\n  b:\n  - description: \"first\n\n      a: \\\"quoted\\\"\n      \
             entries:\"\n  a:\n  - {one}\n  - {two}\n"
        ),
        format!("entries:\n  b:\n  - description: 'it''s\n      a:'\n  a:\n  - {one}\n  - {two}\n"),
        format!(
            "entries:\n  b:\n  - description: plain\n      \"and so on\n      - *not an alias\n    \
             name: b\n  a:\n  - {one}\n  - {two}\n"
        ),
        format!(
            "entries:\n  b:\n  - keywords: [x,\n      \"a:\", 'y]',\n      z]\n  a:\n  - {one}\n  - {two}\n"
        ),
        format!(
            "entries:\n  b:\n  - keywords:\n    - |\n      a:\n    - >\n      entries:\n  \
             a:\n  - {one}\n  - {two}\n"
        ),
        format!(
            "annotations:\n  entries: x\n  a:\n  - y\npublicKeys:\n- a\nentries:\n  a:\n  - {one}\n  - {two}\n"
        ),
        format!("entries:\n  a:\n  - {one}\n  - {two}\nannotations:\n  a:\n  - {one}\n"),
        format!("entries:\n  \"a\\u0062\": []\n  a:\n  - {one}\n  - {two}\n"),
        // Anchors in place, and aliases across charts.
        format!("entries:\n  a: &all\n  - &one {one}\n  - !!map {two}\n"),
        format!("x-one: &one {one}\nentries:\n  a:\n  - *one\n  - {two}\n"),
        format!("entries:\n  b: &b\n  - {one}\n  - {two}\n  a: *b\n"),
        format!("entries:\n  b:\n  - &b {one}\n  a:\n  - <<: *b\n  - <<: *b\n    version: 2.0.0\n"),
        // Flow style and JSON.
        format!("entries: {{a: [{one}, {two}]}}\n"),
        format!("{{entries: {{a: [{one}, {two}]}}}}\n"),
        concat!(
            r#"{"apiVersion":"v1","entries":{"a":[{"name":"a","version":"1.0.0","urls":["x"]},"#,
            "\n\t",
            r#"{"name":"a","version":"2.0.0","urls":["x"]}]}}"#
        )
        .into(),
        format!("? entries\n:\n  a:\n  - {one}\n  - {two}\n"),
        format!("entries:\n  ? a\n  :\n  - {one}\n  - {two}\n"),
        format!("Entries:\n  a:\n  - {one}\n  - {two}\n"),
    ] {
        let read = if text.contains("<<") || text.starts_with('?') || text.contains("  ? a") {
            index(&text).chart("a").unwrap_or_else(|error| panic!("{error}\n{text}"))
        } else if text.contains("...\n") || text.contains("\n---\nentries") {
            // A parser for one document refuses the second, which Helm and we ignore.
            index(&text).chart("a").unwrap()
        } else {
            chart(&text, "a")
        };
        assert_eq!(versions(&read), ["1.0.0", "2.0.0"], "{text}");
        assert_eq!(read.problems, [], "{text}");
    }
}

#[test]
fn indexes_that_can_be_cut_are_not_parsed_whole() {
    let text =
        "apiVersion: v1\nentries:\n  b:\n  - description: |\n      x: *y\n  a:\n  - urls: [x]\n";
    let index = index(text);
    assert!(index.charts.values().all(|packed| packed.lock().form == Form::Yaml));
    let flow = Index::parse(URL, b"entries: {a: []}").unwrap();
    assert!(flow.charts.values().all(|packed| packed.lock().form == Form::Empty));
}

#[test]
fn bad_entries_are_problems_and_the_others_are_usable() {
    let read = chart(
        "entries:
  a:
  - {name: a, version: 1.0.0, urls: [x]}
  - {name: a, urls: [x]}
  - {version: 1.1.0, urls: [x]}
  - {name: b, version: 1.2.0, urls: [x]}
  - {name: a, version: latest, urls: [x]}
  - {name: a, version: 1.3.0}
  - {name: a, version: 1.4.0, urls: []}
  - {name: a, version: 1.5.0, urls: x}
  - {name: a, version: [1], urls: [x]}
  - {name: a, version: 1.6.0, urls: [x], digest: abc}
  - null
  - text
  - {name: a, version: v1.0.0, urls: [x]}
  - {name: a, version: 1.7.0, urls: [x],
     digest: SHA256:E3B0C44298FC1C149AFBF4C8996FB92427AE41E4649B934CA495991B7852B855}
  - {name: a, version: 1.8.0, urls: [x]}
  - {name: a, version: 1.8.0, urls: [y]}
  - {name: a, version: 1.9.0, urls: [x]}
  - {name: a, version: 1.9.0, urls: [x]}
",
        "a",
    );
    assert_eq!(versions(&read), ["1.0.0", "v1.0.0", "1.7.0", "1.9.0"]);
    let problems: Vec<String> = read.problems.iter().map(ToString::to_string).collect();
    assert_eq!(
        problems,
        [
            "chart a 1.8.0: the index lists it twice, with different contents",
            "chart a, entry 2: it has no `version`",
            "chart a 1.1.0: it has no `name`",
            "chart a 1.2.0: its `name` is b",
            "chart a latest: the version is not a semantic version",
            "chart a 1.3.0: it has no `urls`",
            "chart a 1.4.0: it has no `urls`",
            "chart a 1.5.0: `urls` is not a list",
            "chart a, entry 9: `version` is a list, not text",
            "chart a 1.6.0: its `digest` is not a SHA-256 in hex",
            "chart a, entry 11: the entry is empty or not a mapping",
            "chart a, entry 12: the entry is empty or not a mapping",
        ]
    );

    assert_eq!(read.get("1.7.0").unwrap().digest.as_ref().unwrap().hex(), DIGEST);
}

#[test]
fn documents_that_are_not_an_index_are_described() {
    for (text, why) in [
        ("", "it is empty"),
        (" \n", "it is empty"),
        ("\n <!DOCTYPE html><html><body>Log in</body></html>", "is a web page"),
        ("Not Found", "not the index of a chart repository"),
        ("- a\n", "not the index of a chart repository"),
        ("error: not found\n", "no `entries`"),
        ("{\"message\":\"no\"}", "no `entries`"),
        ("entries: text\n", "not the index of a chart repository"),
        ("entries:\n- a\n", "not the index of a chart repository"),
        (
            "entries:\n  a: []\n  b:\n  - {name: [}\n  c: []\n",
            "not the index of a chart repository",
        ),
        (
            "entries:\n  a: []\n  b:\n  - name: \"b\n  c: []\n",
            "not the index of a chart repository",
        ),
        ("entries: {a: [\n", "not the index of a chart repository"),
        ("{\"entries\": {", "not the index of a chart repository"),
        ("\u{1f}\u{0}", "not the index of a chart repository"),
    ] {
        let error =
            Index::parse(URL, text.as_bytes()).err().unwrap_or_else(|| panic!("{text:?} was read"));
        let message = error.to_string();
        assert!(message.contains(why) && message.contains(URL), "{text:?}: {message}");
        assert_eq!(error.class(), Class::SourceInvalid);
        assert!(error.is_elsewhere());
    }

    assert!(Index::parse(URL, b"\xff\xfe{\0").is_err(), "UTF-16");
    for empty in [
        "entries: {}\n",
        "apiVersion: v1\nentries:\n",
        "apiVersion: v1\nentries: null\n",
        "apiVersion: v1\n",
    ] {
        assert_eq!(index(empty).names().count(), 0, "{empty}");
        assert!(matches!(index(empty).chart("a"), Err(Error::NoSuchChart { .. })), "{empty}");
    }
}

#[test]
fn unreadable_charts_do_not_affect_the_others() {
    let text = "entries:\n  a:\n  - {name: a, version: 1.0.0, urls: [x]}\n  b:\n  - name: b\n   x: y\n  \
                c: text\n  d: []\n  d: []\n  e:\n";
    let index = index(text);
    assert_eq!(index.chart("a").unwrap().versions.len(), 1);
    assert_eq!(index.chart("e").unwrap().versions.len(), 0);
    for (name, why) in [
        ("b", "cannot read the versions of chart b"),
        ("c", "not a list of versions"),
        ("d", "lists the chart twice"),
    ] {
        let message = index.chart(name).unwrap_err().to_string();
        assert!(message.contains(why) && message.contains(URL), "{message}");
    }
}

#[test]
fn yaml_bombs_end_early() {
    let mut bomb = "a0: &a0 [x,x,x,x,x,x,x,x,x]\n".to_owned();
    for n in 1..12 {
        let last = n - 1;
        bomb.push_str(&format!("a{n}: &a{n} [{}]\n", vec![format!("*a{last}"); 9].join(",")));
    }

    for entries in
        ["entries: *a11\n", "entries:\n  a:\n  - {name: a, version: 1.0.0, urls: *a11}\n"]
    {
        let error = Index::parse(URL, format!("{bomb}{entries}").as_bytes()).unwrap_err();
        assert_eq!(error.class(), Class::SourceInvalid, "{error}");
    }

    let deep = format!("entries: {}", "[".repeat(100_000));
    assert!(Index::parse(URL, deep.as_bytes()).is_err());
    let deep = format!("{{\"entries\": {}", "[".repeat(100_000));
    assert!(Index::parse(URL, deep.as_bytes()).is_err());
    let deep = format!("entries:\n  a:\n  - x: {}{}\n", "[".repeat(100_000), "]".repeat(100_000));
    assert!(index(&deep).chart("a").is_err());
}

/// On a thread with half of the stack that the process gives its threads.
#[test]
fn entries_are_read_up_to_the_bound_of_depth() {
    // The lists and mappings around `x`, in the lines of a chart and in the whole document.
    const OUTSIDE: usize = 3;
    const WHOLE: usize = 4;
    let lines = |depth: usize| {
        let nested: String =
            (0..depth).map(|level| format!("\n{}a:", " ".repeat(level + 5))).collect();
        format!(
            "entries:\n  a:\n  - name: a\n    version: 1.0.0\n    urls: [x]\n    x:{nested} 1\n"
        )
    };
    let json = |depth: usize| {
        let (open, close) = ("[".repeat(depth), "]".repeat(depth));
        let entry =
            format!(r#"{{"name": "a", "version": "1.0.0", "urls": ["x"], "x": {open}{close}}}"#);
        format!(r#"{{"entries": {{"a": [{entry}]}}}}"#)
    };

    let read = move || {
        assert_eq!(index(&lines(MAX_DEPTH - OUTSIDE)).chart("a").unwrap().versions.len(), 1);
        for depth in [1, 34, 984] {
            let error = index(&lines(MAX_DEPTH - OUTSIDE + depth)).chart("a").unwrap_err();
            assert!(error.to_string().contains("more than 16 levels deep"), "{error}");
        }

        for quote in ["\"", "'"] {
            let document = |depth: usize| json(depth).replace('"', quote);
            let text = document(MAX_DEPTH - WHOLE);
            assert_eq!(index(&text).chart("a").unwrap().versions.len(), 1, "{text}");
            for depth in [1, 34] {
                let text = document(MAX_DEPTH - WHOLE + depth);
                let error = Index::parse(URL, text.as_bytes()).unwrap_err();
                assert!(error.to_string().contains("more than 16 levels deep"), "{error}");
            }
        }
    };
    let thread = std::thread::Builder::new().stack_size(1024 * 1024).spawn(read);
    thread.expect("a thread").join().expect("no panic");
}

#[test]
fn an_anchor_may_stand_alone_and_a_byte_order_mark_may_come_first() {
    let text = "\u{feff}entries:\n  a:\n  - &one\n    name: a\n    version: 1.0.0\n    urls: [x]\n";
    assert_eq!(versions(&chart(text, "a")), ["1.0.0"]);
}

#[test]
fn the_last_of_two_equal_fields_counts_at_every_call() {
    let index = index("entries:\n  a:\n  - {name: a, version: 1.0.0, urls: x, urls: [y.tgz]}\n");
    for _ in 0..2 {
        assert_eq!(index.chart("a").unwrap().versions[0].urls, ["y.tgz"]);
    }
}

#[test]
fn a_carriage_return_alone_ends_a_line() {
    let text = "entries:\n  a: []\r  b:\r  - {name: b, version: 1.0.0, urls: [x]}\n";
    assert_eq!(versions(&chart(text, "b")), ["1.0.0"]);
}

#[test]
fn bytes_are_bounded() {
    let mut reader = Reader::new(URL, 100, results());
    reader.push(&[b'\n'; 60]).unwrap();
    assert!(reader.push(&[b'\n'; 60]).unwrap_err().to_string().contains("more than 100 bytes"));
}

/// Random texts are cut as the parser reads them, or are parsed.
#[test]
fn cutting_agrees_with_parsing_on_random_indexes() {
    const PIECES: [&str; 24] = [
        "  a:\n",
        "  b:\n",
        "  \"c\":\n",
        "  - name: a\n",
        "    version: 1.0.0\n",
        "    urls: [x]\n",
        "    urls:\n",
        "    - y\n",
        "    description: |\n",
        "      a:\n",
        "     b: c\n",
        "    x: \"q\n",
        "      a: b\"\n",
        "    x: 'q\n",
        "      '\n",
        "    k: [1,\n",
        "      2]\n",
        "# c\n",
        "\n",
        "    z: plain\n",
        "      more\n",
        "    n: {a: b}\n",
        "generated: now\n",
        "    y: >-\n",
    ];
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut next = move |most: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state % most as u64).unwrap()
    };

    let (mut agreed, mut cut) = (0, 0);
    for _ in 0..30_000 {
        let mut text = "entries:\n".to_owned();
        for _ in 0..next(14) {
            text.push_str(PIECES[next(PIECES.len())]);
        }
        let Ok(parsed) = parsed_whole(&text) else { continue };
        if parsed.charts.values().any(|packed| packed.lock().is_duplicate) {
            continue;
        }
        let read = index(&text);
        let (mut names, mut expected) =
            (read.names().collect::<Vec<_>>(), parsed.names().collect::<Vec<_>>());
        names.sort_unstable();
        expected.sort_unstable();
        assert_eq!(names, expected, "{text}");
        cut += usize::from(read.charts.values().any(|packed| packed.lock().form == Form::Yaml));
        for name in names {
            assert_eq!(read.chart(name).ok(), read.chart(name).ok(), "again\n{text}");
            let (read, parsed) = (read.chart(name), parsed.chart(name));
            assert_eq!(
                read.map_err(|e| e.to_string()).ok(),
                parsed.map_err(|e| e.to_string()).ok(),
                "{name}\n{text}"
            );
        }
        agreed += 1;
    }

    assert!(agreed > 1000 && cut > 500, "{agreed} {cut}");
}
