//! Levers that lie at any place and angle on a shaded table, and what the meta says of them.

use super::Picture;
use gstvadlite::video::meta::{FrameResult, PartResult};
use std::f32::consts::TAU;

pub const WIDTH: usize = 400;
pub const HEIGHT: usize = 300;
/// Half the length of a part, in pixels.
pub const HALF: f32 = 42.0;

/// A lever that lies somewhere.
#[derive(Debug, Clone, Copy)]
pub struct Lever {
    pub x: f32,
    pub y: f32,
    pub angle: f32,
    /// A dark spot at a place along it, in halves of its length.
    pub spot: Option<f32>,
    /// What is its own: how bright it is and where its grooves lie; 0 of those that are all alike.
    pub own: f32,
}

impl Lever {
    pub fn at(x: f32, y: f32, angle: f32) -> Self {
        Self {
            x,
            y,
            angle,
            spot: None,
            own: 0.0,
        }
    }

    /// Its grey level at a place in the picture; `None` beside it.
    pub fn level(&self, x: f32, y: f32) -> Option<f32> {
        let (sin, cos) = self.angle.sin_cos();
        let (dx, dy) = ((x - self.x) / HALF, (y - self.y) / HALF);
        if dx.hypot(dy) > 1.1 {
            return None;
        }
        let (u, v) = (cos * dx + sin * dy, -sin * dx + cos * dy);
        let head = (u - 0.6).hypot(v) <= 0.4;
        let bar = u.abs() <= 1.0 && v.abs() <= 0.25;
        let hole = (u - 0.6).hypot(v) <= 0.15;
        let spot = self.spot.is_some_and(|at| (u - at).hypot(v) <= 0.16);
        match (bar || head, hole, spot) {
            (false, ..) => None,
            (true, true, _) => Some(100.0),
            (true, _, true) => Some(60.0),
            (true, false, false) => Some(185.0 + 15.0 * (5.0 * u).sin() + self.grooves(u, v)),
        }
    }

    /// What tells it from the others.
    fn grooves(&self, u: f32, v: f32) -> f32 {
        let own = self.own;
        if own == 0.0 {
            return 0.0;
        }
        let along = (6.0 * u + 40.0 * own).sin() * (5.0 * v + 90.0 * own).sin();
        12.0 * along + 8.0 * (25.0 * own).sin()
    }

    /// Where the middle of the bar's box is: the pose's reference is that of the outline.
    pub fn near(&self, part: &PartResult) -> bool {
        let (x, y) = (part.x * WIDTH as f32, part.y * HEIGHT as f32);
        (x - self.x).hypot(y - self.y) < 0.2 * HALF
    }
}

pub fn picture(levers: &[Lever], seed: u64) -> Picture {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut rgb = Vec::with_capacity(3 * WIDTH * HEIGHT);
    for y in 0..HEIGHT {
        for x in 0..WIDTH {
            let mut sum = 0.0;
            for sub in 0..4 {
                let place = (
                    x as f32 + 0.25 + 0.5 * (sub % 2) as f32,
                    y as f32 + 0.25 + 0.5 * (sub / 2) as f32,
                );
                let of_lever = levers
                    .iter()
                    .find_map(|lever| lever.level(place.0, place.1));
                sum += of_lever.unwrap_or(50.0 + 20.0 * place.0 / WIDTH as f32) / 4.0;
            }
            let level = sum + 6.0 * (random.f32() - 0.5);
            rgb.extend([level as u8, level as u8, (0.9 * level) as u8]);
        }
    }
    Picture {
        width: WIDTH,
        height: HEIGHT,
        rgb,
    }
}

pub fn somewhere(random: &mut fastrand::Rng) -> Lever {
    let margin = 1.15 * HALF;
    Lever::at(
        margin + random.f32() * (WIDTH as f32 - 2.0 * margin),
        margin + random.f32() * (HEIGHT as f32 - 2.0 * margin),
        TAU * random.f32(),
    )
}

/// What the meta says of a frame.
pub fn result_of(buffer: &gst::BufferRef) -> FrameResult<'static> {
    let mut read = None;
    FrameResult::read_all(buffer, |result| {
        let result = result.unwrap();
        read = Some(FrameResult {
            model: result.model.into_owned().into(),
            regions: result.regions.into_owned().into(),
            parts: result.parts.map(|parts| parts.into_owned().into()),
            map: None,
            ..result
        });
    });
    read.unwrap()
}

/// The same of a model that locates parts, and these.
pub fn parts_of(buffer: &gst::BufferRef) -> (FrameResult<'static>, Vec<PartResult>) {
    let result = result_of(buffer);
    let parts = result.parts.clone().unwrap().into_owned();
    (result, parts)
}
