//! `serve`: a folder's files over HTTP, by a process like any other.

use serde_json::json;

use crate::harness::{Mcpm, kill, reserve, sh, wait_for};

fn site(mcpm: &Mcpm) -> String {
    mcpm.write("index.html", "<p>home");
    mcpm.write("a.css", "p{}");
    mcpm.folder().to_str().unwrap().to_owned()
}

#[test]
fn a_folder_is_served_and_its_process_is_one_of_the_list() {
    let mcpm = Mcpm::new();
    let (folder, port) = (site(&mcpm), reserve());
    let number = port.number().to_string();
    mcpm.ok(&["serve", &folder, &number, "--spa", "--host", "127.0.0.1"]);
    let name = format!("static-page-server-{number}");
    let url = format!("http://127.0.0.1:{number}");
    wait_for(
        || std::net::TcpStream::connect(("127.0.0.1", port.number())).ok(),
        "the file server",
    );
    assert_eq!(mcpm.get(&format!("{url}/")).text(), "<p>home");
    assert_eq!(mcpm.get(&format!("{url}/a.css")).text(), "p{}");
    assert_eq!(mcpm.get(&format!("{url}/some/view")).text(), "<p>home");
    let again = mcpm.fails(&["serve", &folder, &number]);
    assert!(again.contains("runs already"), "{again}");
    let pid = mcpm.list()[&*name].pid;
    kill(pid, "KILL");
    mcpm.wait_until(|list| list[&*name].is_up() && list[&*name].pid != pid);
    mcpm.ok(&["stop", &name]);
    assert_eq!(mcpm.list()[&*name].status, "stopped");
}

#[test]
fn an_ecosystem_file_can_say_serve() {
    let mcpm = Mcpm::new();
    let (folder, port) = (site(&mcpm), reserve());
    let app = sh("files", "")
        .with("/script", "serve")
        .with("/args", json!([]))
        .with("/interpreter", json!(null))
        .with("/env/PM2_SERVE_PATH", folder)
        .with("/env/PM2_SERVE_PORT", port.number())
        .with("/env/PM2_SERVE_HOST", "127.0.0.1")
        .with("/env/PM2_SERVE_BASIC_AUTH", true)
        .with("/env/PM2_SERVE_BASIC_AUTH_USERNAME", "u")
        .with("/env/PM2_SERVE_BASIC_AUTH_PASSWORD", "p");
    let file = mcpm.ecosystem([app]);
    mcpm.ok(&["start", &file]);
    let url = format!("http://127.0.0.1:{}/a.css", port.number());
    wait_for(
        || std::net::TcpStream::connect(("127.0.0.1", port.number())).ok(),
        "the file server",
    );
    assert_eq!(mcpm.get(&url).status, 401);
    let shown = mcpm
        .send("GET", &url, &[("Authorization", "Basic dTpw")], b"")
        .read();
    assert_eq!((shown.status, shown.text()), (200, "p{}".to_owned()));
    // The password is in no argument list, and not in the lists.
    assert!(
        !mcpm
            .ok(&["jlist"])
            .contains("\"PM2_SERVE_BASIC_AUTH_PASSWORD\":\"p\"")
    );
}

#[test]
fn what_is_not_there_is_refused_in_a_line() {
    let mcpm = Mcpm::new();
    assert!(
        mcpm.fails(&["serve", ".", "--monitor"])
            .contains("hosted dashboard")
    );
    assert!(
        mcpm.fails(&["serve", ".", "--ftp"])
            .contains("lists folders")
    );
    assert!(
        mcpm.fails(&["serve", "/nonexistent"])
            .contains("cannot serve `/nonexistent`")
    );
    assert!(
        mcpm.fails(&["serve", ".", "--basic-auth-username", "u"])
            .contains("password")
    );
}
