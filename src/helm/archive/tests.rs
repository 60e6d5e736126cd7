use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;
use tar::{Builder, Header};

use super::*;

const CHART: &[u8] = b"apiVersion: v2\nname: a\nversion: 1.0.0\n";

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// A header with a name that `tar` would refuse to write.
fn header(name: &str, kind: EntryType, size: usize) -> Header {
    let mut header = Header::new_gnu();
    header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
    header.set_entry_type(kind);
    header.set_size(size as u64);
    header.set_mode(0o644);
    header.set_cksum();
    header
}

fn tar(entries: &[(&str, EntryType, &[u8])]) -> Vec<u8> {
    let mut builder = Builder::new(Vec::new());
    for (name, kind, contents) in entries {
        builder.append(&header(name, *kind, contents.len()), *contents).unwrap();
    }
    builder.into_inner().unwrap()
}

fn files(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let entries: Vec<_> =
        entries.iter().map(|(name, contents)| (*name, EntryType::Regular, *contents)).collect();
    gzip(&tar(&entries))
}

#[test]
fn chart_yaml_is_found_whatever_the_folder() {
    let long = format!("{}/Chart.yaml", "x".repeat(150));
    let mut builder = Builder::new(Vec::new());
    let mut plain = Header::new_gnu();
    plain.set_size(CHART.len() as u64);
    plain.set_cksum();
    builder.append_data(&mut plain, &long, CHART).unwrap();
    let gnu_long = gzip(&builder.into_inner().unwrap());
    let record = format!("{} path={long}\n", long.len() + 10);
    assert_eq!(record.len(), long.len() + 10);
    let pax = gzip(&tar(&[
        ("x", EntryType::XHeader, record.as_bytes()),
        ("short", EntryType::Regular, CHART),
    ]));
    let mut two_members = files(&[("a/Chart.yaml", CHART), ("a/values.yaml", &[b'x'; 5000])]);
    let whole = tar(&[
        ("a/values.yaml", EntryType::Regular, b"x"),
        ("a/Chart.yaml", EntryType::Regular, CHART),
    ]);
    let members = [gzip(&whole[..700]), gzip(&whole[700..])].concat();
    let with_bom = [b"\xef\xbb\xbf", CHART].concat();

    for archive in [
        files(&[("a/Chart.yaml", CHART)]),
        files(&[("other/Chart.yaml", CHART)]),
        files(&[("./Chart.yaml", CHART)]),
        files(&[("a\\Chart.yaml", CHART), ("a\\templates\\x.yaml", b"x")]),
        files(&[("a/./Chart.yaml", CHART)]),
        files(&[("a/charts/b/Chart.yaml", b"name: b\nversion: 9.0.0"), ("a/Chart.yaml", CHART)]),
        files(&[("a/Chart.yaml", &with_bom)]),
        gzip(&tar(&[
            ("a/", EntryType::Directory, b""),
            ("pax", EntryType::XGlobalHeader, b"8 a=b\n"),
            ("a/Chart.yaml", EntryType::Regular, CHART),
        ])),
        gnu_long,
        pax,
        members,
        {
            two_members.extend_from_slice(b"trailing bytes");
            two_members
        },
        // Without the two empty blocks at the end.
        gzip(&whole[..whole.len() - 1024]),
    ] {
        assert_eq!(read(&archive).unwrap().version, "1.0.0");
    }
}

#[test]
fn links_are_not_followed_and_names_that_lead_out_are_refused() {
    for kind in [EntryType::Symlink, EntryType::Link] {
        let archive = gzip(&tar(&[("a/Chart.yaml", kind, b"")]));
        assert_eq!(read(&archive), Err(Error::NoChartYaml), "{kind:?}");
        let beside = gzip(&tar(&[("a/x", kind, b""), ("a/Chart.yaml", EntryType::Regular, CHART)]));
        assert!(read(&beside).is_ok());
    }

    for name in [
        "a/../../etc/passwd",
        "a/../..",
        "a//etc/passwd",
        "a/c:/x",
        "a/..",
        "Chart.yaml",
        "Chart.yaml/x",
        "a\\..\\..\\x",
        "file",
    ] {
        let archive = files(&[("a/Chart.yaml", CHART), (name, b"x")]);
        assert_eq!(read(&archive), Err(Error::UnsafeName(name.into())), "{name}");
    }
}

#[test]
fn archives_that_are_not_charts_are_refused_with_a_reason() {
    let good = files(&[
        ("a/Chart.yaml", CHART),
        (
            "a/values.yaml",
            &(0..9999_u16).flat_map(|n| (n.wrapping_mul(40_503)).to_le_bytes()).collect::<Vec<_>>(),
        ),
    ]);
    for cut in [20, good.len() / 2, good.len() - 9, good.len() - 1] {
        assert_eq!(read(&good[..cut]), Err(Error::Truncated), "{cut} of {}", good.len());
    }
    let mut damaged = good.clone();
    let middle = damaged.len() / 2;
    damaged[middle..middle + 20].fill(0xff);
    assert!(
        matches!(read(&damaged), Err(Error::Damaged(_) | Error::Truncated)),
        "{:?}",
        read(&damaged)
    );

    for (archive, why) in [
        (b"".to_vec(), "not a gzipped archive"),
        (b"PK\x03\x04".to_vec(), "not a gzipped archive"),
        (b"\n<html>login</html>".to_vec(), "a web page"),
        (gzip(b""), "no Chart.yaml"),
        (gzip(&[7; 2000]), "damaged"),
        (files(&[("a/values.yaml", b"x")]), "no Chart.yaml"),
        (files(&[("a/b/Chart.yaml", CHART)]), "no Chart.yaml"),
        (files(&[("a/Chart.yaml", CHART), ("b/Chart.yaml", CHART)]), "Chart.yaml twice"),
        (files(&[("a/Chart.yaml", b"name: a\n")]), "no `version`"),
        (files(&[("a/Chart.yaml", b"\xff\xfe")]), "not UTF-8"),
        (files(&[("a/Chart.yaml", &vec![b'#'; 2_000_000])]), "more than 512 KiB"),
        (gzip(&tar(&[("x", EntryType::XHeader, b"nonsense")])), "pax"),
        (gzip(&tar(&[("x", EntryType::XHeader, b"99999999999999999999 a=b\n")])), "pax"),
        (gzip(&tar(&[("x", EntryType::GNULongName, &[b'x'; 70_000])])), "8 KiB"),
    ] {
        let message = read(&archive).unwrap_err().to_string();
        assert!(message.contains(why), "{why}: {message}");
    }

    let sized = gzip(&{
        let mut bytes = header("a/Chart.yaml", EntryType::Regular, 1 << 33).as_bytes().to_vec();
        bytes.extend_from_slice(CHART);
        bytes
    });

    assert_eq!(read(&sized), Err(Error::LargeFile { file: "Chart.yaml" }));
}

#[test]
fn bombs_end_early() {
    let zeros = files(&[("a/x", &vec![0; 101 << 20]), ("a/Chart.yaml", CHART)]);
    assert!(zeros.len() < 1 << 20);
    assert_eq!(read(&zeros), Err(Error::Expands));
    let after = files(&[("a/Chart.yaml", CHART)]);
    let after = [after, gzip(&vec![0; 101 << 20])].concat();
    assert_eq!(read(&after), Err(Error::Expands), "also after the end of the archive");
    let many: Vec<_> = (0..20_001).map(|_| ("a/x", EntryType::Regular, &b""[..])).collect();
    assert_eq!(read(&gzip(&tar(&many))), Err(Error::Entries));
}

/// Files of the largest size, of many small values.
#[test]
fn a_chart_needs_no_more_memory_than_is_reserved() {
    // The state of inflating, the window of the tar reader, and the largest names.
    const CODECS: usize = 256 * 1024;
    let chart = |size: usize, head: &str, item: &str, close: &str| {
        let head = format!("name: a\nversion: 1.0.0\n{head}");
        format!("{head}{}{close}\n", item.repeat((size - head.len() - 4) / item.len()))
    };
    for size in [500, 3000, 20_000, MAX_FILE as usize] {
        for (head, item, close) in [
            ("keywords: [", "a,", "]"),
            ("keywords: [", "'',", "]"),
            ("keywords:\n", "- a\n", ""),
            ("dependencies: [", "{},", "]"),
            ("maintainers: [", "{name: a},", "]"),
            ("x: {", "a: b,", "}"),
            ("x: &a [a]\ny: [", "*a,", "]"),
            ("x: &a [", "a,", "]"),
            ("description: ", "a", ""),
            ("description: \"", "\\x41", "\""),
        ] {
            let text = chart(size, head, item, close);
            let archive = files(&[("a/Chart.yaml", text.as_bytes())]);
            let mut reserved = NEED.of(0);
            let mut reserve = |bytes| {
                reserved = reserved.max(bytes);
                Ok(())
            };
            let measured = allocation_counter::measure(|| {
                drop(read_within(&archive, &mut reserve));
            });
            let most = usize::try_from(measured.bytes_max).unwrap();
            assert!(
                most <= reserved + CODECS,
                "{} bytes, {item:?}: {most} of {reserved}",
                text.len()
            );
        }
    }
}

#[test]
fn a_chart_other_than_in_the_index_is_an_error_that_names_both() {
    let archive = files(&[("a/Chart.yaml", CHART)]);
    let read_as = |archive: &[u8], name: &str, version: &str| {
        read_as(archive, name, version, &mut |_| Ok(()))
    };
    assert!(read_as(&archive, "a", "1.0.0").is_ok());
    for (name, version) in [("b", "1.0.0"), ("a", "1.0.1"), ("a", "v1.0.0")] {
        let message = read_as(&archive, name, version).unwrap_err().to_string();
        assert_eq!(
            message,
            format!("Chart.yaml says a 1.0.0, but the index says {name} {version}")
        );
    }
}
