use super::*;

const GRID: Size = Size::square(14);
const PATCHES: usize = 4;

/// Images of patches that vary alike, log-normally, but that those `where_restless` do so by `restless` times as much.
fn images(
    count: usize,
    seed: u64,
    restless: f32,
    where_restless: impl Fn(usize, usize) -> bool,
) -> Vec<Vec<f32>> {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut normal = || (0..12).map(|_| random.f32()).sum::<f32>() - 6.0;
    let image = |_| {
        // A place is restless as a whole, in one image more than in another.
        let there = normal().abs();
        let patch = |patch: usize| {
            let (row, column) = (patch / GRID.width, patch % GRID.width);
            let calm = 0.2 * normal();
            match where_restless(row, column) {
                true => (calm + 0.2 * restless * there).exp(),
                false => calm.exp(),
            }
        };
        (0..GRID.area()).map(patch).collect()
    };
    (0..count).map(image).collect()
}

fn find(images: &[Vec<f32>], judged: &[bool]) -> Option<Cluster> {
    let scored = |patches: &Vec<f32>| {
        let of = |patch: usize| judged.get(patch).copied().unwrap_or(true);
        let judged: Vec<f32> = patches
            .iter()
            .enumerate()
            .map(|(patch, score)| if of(patch) { *score } else { 0.0 })
            .collect();
        let patch = (0..judged.len()).max_by(|&a, &b| judged[a].total_cmp(&judged[b]));
        Scored {
            score: mean_of_highest(&judged, PATCHES, &mut Vec::new()),
            patch: patch.unwrap(),
        }
    };
    let scored: Vec<Scored> = images.iter().map(scored).collect();
    let all = scored.into_iter().zip(images);
    let all: Vec<Image<'_>> = all.map(|(scored, image)| (scored, &image[..])).collect();
    cluster(&all, GRID, judged, PATCHES, 0.02)
}

/// Numbers of images, and seeds: always the same, as what is said of chance is true of many and not of each.
fn drawn(fewest: usize) -> impl Iterator<Item = (usize, u64)> {
    (0..300).map(move |number| (fewest + (37 * number as usize) % 250, number))
}

#[test]
fn chance_is_no_place() {
    // One in a thousand by the scan alone, and fewer since the threshold has to fall as well.
    let found = drawn(10).filter(|&(count, seed)| {
        let images = images(count, seed, 0.0, |_, _| false);
        find(&images, &[]).is_some()
    });
    assert_eq!(found.count(), 0);
}

#[test]
fn a_restless_corner_is_found_and_left_out() {
    let corner = |row: usize, column: usize| row < 3 && column > 10;
    let mut found = 0;
    for (count, seed) in drawn(50) {
        let images = images(count, seed, 4.0, corner);
        // The few images that set the threshold may be restless elsewhere by chance.
        let Some(cluster) = find(&images, &[]) else {
            continue;
        };
        found += 1;
        assert_eq!(&cluster.place, "in the upper right corner", "seed {seed}");
        assert!(cluster.without < 0.9 * cluster.threshold, "{cluster:?}");
        assert!(cluster.highest_there <= cluster.images_there && cluster.images == count);
        let gone = (0..GRID.area()).filter(|&patch| !cluster.judged[patch]);
        let near = |patch: usize| patch / 14 < 5 && patch % 14 > 8;
        assert!(
            gone.clone().count() >= 6 && gone.clone().all(near),
            "seed {seed}"
        );
        // With it gone there is nothing left to tell.
        assert_eq!(find(&images, &cluster.judged), None, "seed {seed}");
    }
    assert!(found >= 297, "found in {found} of 300");
}

#[test]
fn places_are_said_as_a_person_would() {
    let place = |restless: fn(usize, usize) -> bool| {
        find(&images(400, 3, 4.0, restless), &[]).map(|cluster| cluster.place)
    };
    assert_eq!(
        place(|_, column| column == 0).unwrap(),
        "along the left edge"
    );
    assert_eq!(place(|row, _| row > 12).unwrap(), "along the lower edge");
    let rim = |row: usize, column: usize| [0, 13].contains(&row) || [0, 13].contains(&column);
    assert_eq!(place(rim).unwrap(), "along the edges");
    let spot = |row: usize, column: usize| (4..6).contains(&row) && (9..11).contains(&column);
    let said = place(spot).unwrap();
    assert!(
        said.starts_with("about 7") && said.ends_with("from the top"),
        "{said}"
    );
    // Half of the picture is no place.
    assert_eq!(place(|row, _| row < 7), None);
}

#[test]
fn any_grid_is_scanned() {
    for grid in [
        Size::new(1, 1),
        Size::new(1, 40),
        Size::new(2, 3),
        Size::new(112, 56),
    ] {
        let units = Units::new(grid);
        let all = units.count(0..grid.area());
        assert_eq!(all.iter().sum::<usize>(), grid.area());
        let regions = units.regions();
        assert!(regions.len() < 100_000, "{} of {grid}", regions.len());
        for region in &regions {
            let patches = (0..grid.area()).filter(|&patch| region.contains(units.of(patch)));
            if grid.area() < 50 {
                assert_eq!(units.sum(&all, region), patches.count());
            }
            assert!(!units.words(region).is_empty());
        }
    }
}

/// Against the binomial tail itself.
#[test]
fn the_bound_is_one() {
    for (part, of, share) in [(8, 8, 0.05), (7, 8, 0.1), (12, 20, 0.25), (3, 20, 0.25)] {
        let choose = |k: usize| (0..k).fold(1.0, |all, i| all * (of - i) as f64 / (i + 1) as f64);
        let exactly = |k: usize| {
            choose(k) * f64::powi(share, k as i32) * f64::powi(1.0 - share, (of - k) as i32)
        };
        let tail: f64 = (part..=of).map(exactly).sum();
        assert!(tail <= log_chance(part, of, share).exp() * (1.0 + 1e-9));
    }
}
