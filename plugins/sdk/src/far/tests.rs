use super::*;

const N: &str = "00112233445566778899aabbccddeeff";

fn link() -> Link {
    Link::new(Nonce::of(0x0011_2233_4455_6677_8899_aabb_ccdd_eeff))
}

/// What a link gives for these outputs, in pieces that end at each of these places.
fn through(out: &[u8], err: &[u8], cuts: &[usize]) -> (Vec<u8>, Vec<u8>, Link) {
    let mut link = link();
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    let mut last = 0;
    for cut in cuts.iter().copied().chain([usize::MAX]) {
        let piece = |bytes: &[u8]| bytes[last.min(bytes.len())..cut.min(bytes.len())].to_vec();
        stdout.extend(link.stdout(piece(out)));
        stderr.extend(link.stderr(piece(err)));
        last = cut;
    }
    stderr.extend(link.finish());
    (stdout, stderr, link)
}

/// The same at every cut, and byte for byte.
fn check(out: &[u8], err: &[u8], stdout: &[u8], stderr: &[u8], state: &State) {
    let length = out.len().max(err.len());
    let bytes: Vec<usize> = (1..length).collect();
    let mut ways: Vec<Vec<usize>> = bytes.iter().map(|cut| vec![*cut]).collect();
    ways.extend([vec![], bytes.clone()]);
    ways.extend(bytes.windows(2).map(<[usize]>::to_vec));
    for cuts in ways {
        let (got_out, got_err, link) = through(out, err, &cuts);
        assert_eq!(String::from_utf8_lossy(&got_out), String::from_utf8_lossy(stdout), "{cuts:?}");
        assert_eq!(String::from_utf8_lossy(&got_err), String::from_utf8_lossy(stderr), "{cuts:?}");
        assert_eq!((got_out.as_slice(), got_err.as_slice(), link.state()), (stdout, stderr, state), "{cuts:?}");
    }
}

fn exited(status: u32, left: u32, killed: u32) -> State {
    State::Ended(Trailer::Exited { status, left, killed, looked: Looked::Proc })
}

#[test]
fn the_command_s_bytes_are_told_from_the_wrapper_s_at_every_cut() {
    let out = format!("{N}\nhello\n");
    let err = format!("{N} begin 4711\noops{N} end exited 3 0 2 proc\n");
    check(out.as_bytes(), err.as_bytes(), b"hello\n", b"oops", &exited(3, 0, 2));
    check(format!("{N}\n").as_bytes(), format!("{N} begin 1\n{N} end exited 0 0 0 proc\n").as_bytes(), b"", b"", &exited(0, 0, 0));
}

#[test]
fn what_the_login_says_before_is_noise() {
    let out = format!("Welcome!\nno line end{N}\n\0\u{ff}");
    let err = format!("bash: warning{N} begin 12\nx{N} end exited 0 0 0 proc\n");
    check(out.as_bytes(), err.as_bytes(), "\0\u{ff}".as_bytes(), b"x", &exited(0, 0, 0));
    let (.., link) = through(out.as_bytes(), err.as_bytes(), &[]);
    assert_eq!(String::from_utf8_lossy(link.noise()), "Welcome!\nno line endbash: warning");
    let (stdout, stderr, link) = through(b"This account is not available.\n", &[b'x'; 3 * NOISE], &[NOISE]);
    assert_eq!((stdout, stderr, link.noise().len()), (vec![], vec![], NOISE));
    assert_eq!(*link.state(), State::Waiting);
}

#[test]
fn pieces_of_the_nonce_and_words_that_are_not_the_wrapper_s_belong_to_the_command() {
    for said in [
        N[..31].to_owned(),
        format!("{0}{0}", &N[..20]),
        format!("0{}", &N[..16]),
        "0000000000".to_owned(),
        format!("{N} no such word\n"),
        format!("{N}\n"),
        format!("{N} begin 2\n"),
        format!("{N} gone\n"),
        format!("{N} end exited x 0 0 proc\n"),
        format!("{N} end exited 0 0 0 proc more\n"),
        format!("{N} end exited 0 0 0\n"),
        format!("{N} end exited 0 -1 0 proc\n"),
        format!("{N} end ended 0 0 0 proc\n"),
        format!("{N}{N}{N}"),
        format!("{N}{}", &N[..5]),
    ] {
        let err = format!("{N} begin 1\n{said}{N} end exited 1 0 0 proc\n");
        check(format!("{N}\n{said}").as_bytes(), err.as_bytes(), said.as_bytes(), said.as_bytes(), &exited(1, 0, 0));
        // The same without a trailer: the link was lost, and nothing is kept back.
        let err = format!("{N} begin 1\n{said}");
        check(format!("{N}\n{said}").as_bytes(), err.as_bytes(), said.as_bytes(), said.as_bytes(), &State::Begun { pid: 1 });
    }
    let long = format!("{N} fail {}\n", "x".repeat(2 * LONGEST));
    let (_, stderr, link) = through(b"", format!("{N} begin 1\n{long}").as_bytes(), &[100, 1200, 1300]);
    assert_eq!((stderr, link.state()), (long.into_bytes(), &State::Begun { pid: 1 }));
}

#[test]
fn every_last_word_is_understood() {
    let ended = State::Ended(Trailer::Ended { left: 2, killed: 7, looked: Looked::Group });
    check(format!("{N}\n").as_bytes(), format!("{N} begin 9\n{N} end ended - 2 7 group\n").as_bytes(), b"", b"", &ended);
    let fail = |code: &str, detail: &str| State::Ended(Trailer::Fail { code: code.to_owned(), detail: detail.to_owned() });
    let cwd = format!("{N} fail cwd there is no such directory\n");
    check(format!("{N}\n").as_bytes(), cwd.as_bytes(), b"", b"", &fail("cwd", "there is no such directory"));
    let bare = format!("{N} begin 9\nx{N} fail vanished\n");
    check(format!("{N}\n").as_bytes(), bare.as_bytes(), b"", b"x", &fail("vanished", ""));
    let gone = format!("{N} begin 9\n{N} end exited 0 0 0 proc\n{N} gone\n");
    check(format!("{N}\n").as_bytes(), gone.as_bytes(), b"", b"", &State::Gone);
}

#[test]
fn what_passes_through_is_not_copied() {
    let mut link = link();
    assert_eq!(link.stdout(link.first_line()), b"");
    assert_eq!(link.stderr(format!("{N} begin 1\n").into_bytes()), b"");
    let (out, err) = (vec![b'x'; 65536], vec![b'0'; 65536]);
    let places = (out.as_ptr(), err.as_ptr());
    let (out, err) = (link.stdout(out), link.stderr(err));
    assert_eq!((out.as_ptr(), err.as_ptr()), places);
    // Two noughts may begin the nonce.
    assert_eq!((out.len(), err.len(), link.finish().len()), (65536, 65534, 2));
}

#[test]
fn a_nonce_is_32_hexadecimal_digits_and_never_the_same() {
    let nonces: Vec<Nonce> = (0..100).map(|_| Nonce::random()).collect();
    for (at, nonce) in nonces.iter().enumerate() {
        assert!(nonce.0.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')));
        assert!(!nonces[..at].contains(nonce));
    }
    assert_eq!(link().first_line(), format!("{N}\n").as_bytes());
    assert_eq!(format!("{:?}", nonces[0]), "Nonce(..)");
}
