//! The SQLite view follows, and heals.

use rusqlite::Connection;

use super::World;
use crate::directory::Command;
use crate::directory::view::View;

fn rows(path: &std::path::Path) -> (i64, i64, i64) {
    let connection = Connection::open(path).expect("a database");
    let count = |table: &str| {
        let sql = format!("SELECT count(*) FROM {table}");
        connection
            .query_row(&sql, [], |row| row.get(0))
            .expect("a count")
    };
    (count("accounts"), count("names"), count("aliases"))
}

#[test]
fn the_view_follows_and_heals() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("directory.sqlite");
    let mut world = World::new();
    world.user("ana@example.org");
    world.user("bo@example.org");
    let mut view = View::new(path.clone());
    view.settle(&world.state).expect("written");
    assert_eq!(rows(&path), (3, 3, 0));

    world.alias("team@example.org", &["ana@example.org", "bo@example.org"]);
    world.run(Command::UserRemove {
        address: "bo@example.org".into(),
        purge: false,
    });
    view.settle(&world.state).expect("written");
    assert_eq!(rows(&path), (3, 2, 2));
    drop(view);

    // The next start finds what it left, also when the maps were built in another order.
    let kept = || std::fs::metadata(&path).expect("the file").len();
    let inode = || std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(&path).expect("there"));
    let (before, same) = (inode(), kept());
    View::new(path.clone())
        .settle(&world.state)
        .expect("written");
    assert_eq!((inode(), kept()), (before, same), "not written anew");

    // A change that was lost, then damage.
    world.user("cy@example.org");
    View::new(path.clone())
        .settle(&world.state)
        .expect("written");
    assert_eq!(rows(&path), (4, 3, 2));
    std::fs::write(&path, b"this is no database").expect("damaged");
    View::new(path.clone())
        .settle(&world.state)
        .expect("written");
    assert_eq!(rows(&path), (4, 3, 2));
    let bytes = std::fs::read(&path).expect("the file");
    assert!(!bytes.windows(5).any(|w| w == b"$hash"), "no passwords");
}
