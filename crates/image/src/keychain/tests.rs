//! Which credentials are read from Docker's files, and what they are good for.

use super::*;

fn keychain(places: &[&str]) -> Keychain {
    let mut keychain = Keychain::default();
    for place in places {
        let credentials = Credentials { username: (*place).into(), password: "p".into() };
        keychain.add(place, credentials);
    }
    keychain
}

fn check(places: &[&str], registry: &str, repository: &str, want: &[&str]) {
    let keychain = keychain(places);
    let got = keychain.matching(registry, repository);
    let got: Vec<&str> = got.iter().map(|c| c.username.as_str()).collect();
    assert_eq!(got, want, "{registry}/{repository}");
}

#[test]
fn the_most_particular_place_is_first() {
    let places = ["r.example", "https://r.example/team/app", "r.example/team", "other.example"];
    let all = ["https://r.example/team/app", "r.example/team", "r.example"];
    check(&places, "r.example", "team/app", &all);
    check(&places, "r.example", "team/application", &all[1..]);
    check(&places, "r.example", "teams/app", &all[2..]);
    check(&places, "R.Example", "x", &all[2..]);
    check(&places, "r.example.evil", "team/app", &[]);
}

#[test]
fn a_port_is_part_of_the_host() {
    check(&["r.example:5000"], "r.example:5000", "a", &["r.example:5000"]);
    check(&["r.example:5000"], "r.example", "a", &[]);
    check(&["r.example"], "r.example:5000", "a", &[]);
    check(&["[::1]:5000/a"], "[::1]:5000", "a", &["[::1]:5000/a"]);
}

#[test]
fn schemes_and_versions_are_no_part_of_the_place() {
    for place in ["http://r.example", "https://r.example/v2/", "r.example/v1", "r.example/"] {
        check(&[place], "r.example", "a/b", &[place]);
    }
    check(&["https://r.example/v2/team"], "r.example", "team/a", &["https://r.example/v2/team"]);
    check(&["https://r.example/v2/team"], "r.example", "a", &[]);
    let hub = "https://index.docker.io/v1/";
    check(&[hub], "docker.io", "library/a", &[hub]);
}

#[test]
fn a_star_stands_for_a_part_of_one_label() {
    check(&["*.example"], "r.example", "a", &["*.example"]);
    check(&["*.example"], "a.r.example", "a", &[]);
    check(&["r*-e*t.example"], "registry-east.example", "a", &["r*-e*t.example"]);
    check(&["r*-e*t.example"], "registry-west.example", "a", &[]);
    check(&["a*a.example"], "a.example", "a", &[]);
    let stars = format!("{}b.example", "*a".repeat(500));
    check(&[&stars], &format!("{}.example", "a".repeat(60)), "a", &[]);
}

fn read(json: &str) -> Result<Keychain, KeychainError> {
    Keychain::of_config_json(json.as_bytes())
}

#[test]
fn both_forms_of_dockers_file_are_read() {
    // `me:se:cret`, and the same padded with a zero byte.
    for auth in ["bWU6c2U6Y3JldA==", "bWU6c2U6Y3JldA", "bWU6c2U6Y3JldAA="] {
        let entry = format!(r#"{{"r.example": {{"auth": "{auth}", "email": "e"}}}}"#);
        let old = Keychain::of_dockercfg(entry.as_bytes()).unwrap();
        let new = read(&format!(r#"{{"auths": {entry}, "credsStore": "x"}}"#)).unwrap();
        assert_eq!(old, new);
        let want = Credentials { username: "me".into(), password: "se:cret".into() };
        assert_eq!(new.matching("r.example", "a"), [&want]);
    }
    let plain = read(r#"{"auths": {"r.example": {"username": "u", "password": "p"}}}"#).unwrap();
    assert_eq!(plain.matching("r.example", "a")[0].username, "u");
    for empty in ["{}", r#"{"auths": {}}"#, r#"{"auths": {"r.example": {}}}"#] {
        assert!(read(empty).unwrap().is_empty(), "{empty}");
    }
}

#[test]
fn what_is_malformed_is_said_without_the_secret() {
    for (json, said) in [
        ("", "no JSON of the form"),
        (r#"{"auths": "hunter2"}"#, "no JSON of the form"),
        (r#"{"auths": {"r": {"password": 1}}}"#, "no JSON of the form"),
        (r#"{"auths": {"r": {"auth": "hunter2!"}}}"#, "`auth` of \"r\""),
        (r#"{"auths": {"r": {"auth": "aHVudGVyMg=="}}}"#, "`auth` of \"r\""),
        (r#"{"auths": {"r": {"identitytoken": "hunter2"}}}"#, "not supported"),
    ] {
        let error = read(json).unwrap_err().to_string();
        assert!(error.contains(said) && !error.contains("hunter2"), "{error}");
    }
    let shown = format!("{:?}", read(r#"{"auths": {"r": {"auth": "bWU6c2VjcmV0"}}}"#).unwrap());
    assert!(shown.contains("me") && !shown.contains("secret"), "{shown}");
}
