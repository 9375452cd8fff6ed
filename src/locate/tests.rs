//! On made-up scenes whose truth is known.

use super::*;
use crate::geometry::Size;
use ndarray::Array3;
use std::f32::consts::{PI, TAU};

const SCENE: Size = Size::new(384, 512);
const LEVELS: Levels = Levels {
    gain: [255.0; 3],
    bias: [0.0; 3],
};

/// Where a part lies, in pixels and radians.
#[derive(Debug, Clone, Copy)]
struct Truth {
    x: f32,
    y: f32,
    angle: f32,
}

/// What is made up.
struct Made {
    random: fastrand::Rng,
    /// Half the part's length.
    half: f32,
    light: f32,
    gradient: f32,
    noise: f32,
    background: f32,
}

impl Made {
    fn new(seed: u64) -> Self {
        Self {
            random: fastrand::Rng::with_seed(seed),
            half: 60.0,
            light: 1.0,
            gradient: 0.0,
            noise: 2.0,
            background: 60.0,
        }
    }

    /// A lever: a bar with a round head at one end and two holes of different size, 0 beyond it and its grey level on it.
    fn lever(&self, along: f32, across: f32) -> f32 {
        let (u, v) = (along / self.half, across / self.half);
        let bar = u.abs() <= 1.0 && v.abs() <= 0.22;
        let head = (u - 0.62).hypot(v) <= 0.38;
        let hole = (u - 0.62).hypot(v) <= 0.16;
        let small = (u + 0.75).hypot(v - 0.02) <= 0.1;
        match (bar || head, hole || small) {
            (true, false) => 190.0 + 20.0 * (6.0 * u).sin(),
            (true, true) => 110.0,
            (false, _) => 0.0,
        }
    }

    fn scene(&mut self, parts: &[Truth]) -> Array3<f32> {
        let mut scene = Array3::zeros((3, SCENE.height, SCENE.width));
        for y in 0..SCENE.height {
            for x in 0..SCENE.width {
                let slope = self.gradient
                    * (x as f32 / SCENE.width as f32 - 0.5 + 0.5 * y as f32 / SCENE.height as f32);
                let mut sum = 0.0;
                for sub in 0..4 {
                    let place = (
                        x as f32 + 0.25 + 0.5 * (sub % 2) as f32,
                        y as f32 + 0.25 + 0.5 * (sub / 2) as f32,
                    );
                    let mut level = self.background + slope;
                    for part in parts {
                        let (sin, cos) = part.angle.sin_cos();
                        let (dx, dy) = (place.0 - part.x, place.1 - part.y);
                        let own = self.lever(cos * dx + sin * dy, -sin * dx + cos * dy);
                        level = if own > 0.0 { own } else { level };
                    }
                    sum += level / 4.0;
                }
                for channel in 0..3 {
                    let noise = self.noise * (self.random.f32() + self.random.f32() - 1.0) * 2.4;
                    scene[[channel, y, x]] = ((self.light * sum + noise) / 255.0).clamp(0.0, 1.0);
                }
            }
        }
        scene
    }

    /// A part somewhere in the scene, all of it.
    fn somewhere(&mut self) -> Truth {
        let margin = self.half * 1.1;
        Truth {
            x: margin + self.random.f32() * (SCENE.width as f32 - 2.0 * margin),
            y: margin + self.random.f32() * (SCENE.height as f32 - 2.0 * margin),
            angle: self.random.f32() * TAU,
        }
    }
}

fn fitted(made: &mut Made) -> Locator {
    let mut fitter = LocatorFitter::new(LEVELS);
    for _ in 0..24 {
        let part = made.somewhere();
        fitter.add(made.scene(&[part]).view());
    }
    match fitter.finish(Demand::Auto, 224 * 224, 512) {
        Verdict::Part(learnt) => {
            let Learnt {
                mut model,
                tensor,
                template,
                ..
            } = *learnt;
            // Scenes are 512 pixels long here, whatever would be asked for; the fit takes them for its own.
            let factor = 512.0 / model.scene as f32;
            model.scale /= factor;
            (model.length, model.width) = (model.length * factor, model.width * factor);
            model.area *= factor * factor;
            model.scene = 512;
            assert!(tensor.width > tensor.height, "{tensor}");
            Locator::new(model, LEVELS, template.view())
        }
        Verdict::None(reason) => panic!("{reason}"),
    }
}

/// Off by: a share of the part's length, and degrees. The pose's middle and angle against those of the truth need a common reference: what
/// one pose says of the truth of its own scene.
fn off(pose: &Pose, truth: &Truth, reference: &(f32, f32, f32), length: f32) -> (f32, f32) {
    let expected = Pose {
        x: truth.x,
        y: truth.y,
        angle: truth.angle,
        ..*pose
    };
    let (x, y) = expected.place(reference.0, reference.1);
    let turn = (pose.angle - truth.angle - reference.2).rem_euclid(TAU);
    let turn = turn.min(TAU - turn).to_degrees();
    ((pose.x - x).hypot(pose.y - y) / length, turn)
}

/// Where the fit sees middle and angle of a part, against where the truth has them.
fn reference(locator: &mut Locator, made: &mut Made) -> (f32, f32, f32) {
    let truth = Truth {
        x: 256.0,
        y: 192.0,
        angle: 0.3,
    };
    let found = locator.locate(made.scene(&[truth]).view());
    assert_eq!(found.len(), 1);
    let pose = found[0].pose;
    let own = Pose {
        x: truth.x,
        y: truth.y,
        angle: truth.angle,
        ..pose
    };
    let (along, across) = own.own(pose.x, pose.y);
    (along, across, pose.angle - truth.angle)
}

#[test]
fn parts_are_located_to_a_hundredth_of_their_length_and_two_degrees() {
    let mut made = Made::new(1);
    let mut locator = fitted(&mut made);
    let reference = reference(&mut locator, &mut made);
    let (mut good, mut all) = (0, 0);
    for number in 0..60 {
        made.light = [0.75, 1.0, 1.25][number % 3];
        made.gradient = [0.0, 40.0, -60.0][number / 3 % 3];
        made.noise = [2.0, 6.0][number % 2];
        let truth = made.somewhere();
        let scene = made.scene(&[truth]);
        let found = locator.locate(scene.view());
        all += 1;
        let [found] = found else { continue };
        let (place, angle) = off(&found.pose, &truth, &reference, 120.0);
        if found.state == State::Located && place <= 0.01 && angle <= 2.0 {
            good += 1;
        }
    }
    assert!(good * 100 >= 95 * all, "{good} of {all}");
}

#[test]
fn several_parts_each_and_those_that_touch_are_told_from_each_other() {
    let mut made = Made::new(2);
    let mut locator = fitted(&mut made);
    // Side by side, head to tail, and one apart.
    let truth = [
        Truth {
            x: 120.0,
            y: 120.0,
            angle: 0.0,
        },
        Truth {
            x: 120.0,
            y: 159.0,
            angle: PI,
        },
        Truth {
            x: 380.0,
            y: 250.0,
            angle: 1.0,
        },
    ];
    let scene = made.scene(&truth);
    let found = locator.locate(scene.view()).to_vec();
    assert_eq!(found.len(), 3, "{found:?}");
    for truth in truth {
        let near = |found: &&Located| (found.pose.x - truth.x).hypot(found.pose.y - truth.y) < 12.0;
        let found: Vec<_> = found.iter().filter(near).collect();
        assert_eq!(found.len(), 1, "{truth:?}");
        assert_eq!(found[0].state, State::Located, "{found:?}");
    }
}

#[test]
fn what_is_no_part_is_said() {
    let mut made = Made::new(3);
    let mut locator = fitted(&mut made);
    // An empty belt, in any light.
    for light in [0.7, 1.0, 1.3] {
        made.light = light;
        assert!(locator.locate(made.scene(&[]).view()).is_empty());
    }
    made.light = 1.0;
    // Cut by the edge.
    let cut = Truth {
        x: 20.0,
        y: 200.0,
        angle: 0.1,
    };
    let found = locator.locate(made.scene(&[cut]).view()).to_vec();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].state, State::Cut);
    // A heap that nobody can tell apart: not judged as if it were one part.
    let heap: Vec<Truth> = (0..5)
        .map(|number| Truth {
            x: 250.0 + 14.0 * number as f32,
            y: 190.0 + 9.0 * (number % 3) as f32,
            angle: 0.7 * number as f32,
        })
        .collect();
    let found = locator.locate(made.scene(&heap).view()).to_vec();
    assert!(!found.is_empty());
    // A speck is none.
    let mut scene = made.scene(&[]);
    scene
        .slice_mut(ndarray::s![.., 100..108, 100..108])
        .fill(0.9);
    assert!(locator.locate(scene.view()).is_empty());
    // Scenes of any size, even of one pixel.
    for size in [(1, 1), (2, 9), (8, 8), (700, 30)] {
        locator.locate(Array3::zeros((3, size.0, size.1)).view());
    }
}

#[test]
fn a_frame_that_may_hide_parts_is_doubted() {
    let mut made = Made::new(6);
    let mut locator = fitted(&mut made);
    let part = Truth {
        x: 250.0,
        y: 190.0,
        angle: 0.4,
    };
    let scene = made.scene(&[part]);
    locator.locate(scene.view());
    assert_eq!(locator.doubt(), None);
    // The lamp is off, and the frame white: nothing stands out of either.
    for level in [0.0, 1.0] {
        locator.locate(Array3::from_elem(scene.dim(), level).view());
        assert_eq!(locator.doubt(), Some(Doubt::Background), "{level}");
    }
    // Glitter all over: more things than are numbered.
    let mut glitter = made.scene(&[]);
    for y in (4..SCENE.height - 4).step_by(12) {
        for x in (4..SCENE.width - 4).step_by(12) {
            let dot = ndarray::s![.., y..y + 2, x..x + 2];
            glitter.slice_mut(dot).fill(1.0);
        }
    }
    locator.locate(glitter.view());
    assert_eq!(locator.doubt(), Some(Doubt::TooMany));
    // A part that lies against a rail on the edge, or under a hand that reaches in, is not a piece of one that is cut.
    let mut held = scene.clone();
    held.slice_mut(ndarray::s![.., ..185, 240..300]).fill(0.8);
    let found = locator.locate(held.view()).to_vec();
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].state, State::Touching);
}

#[test]
fn more_parts_than_there_is_room_for_are_told() {
    let mut made = Made::new(7);
    let mut locator = fitted(&mut made);
    // As if parts were a tenth as long.
    locator.model.area /= 100.0;
    let dots = MOST_PARTS + 3;
    let mut scene = made.scene(&[]);
    for dot in 0..dots {
        let (x, y) = (20 + 50 * (dot % 9), 20 + 60 * (dot / 9));
        scene
            .slice_mut(ndarray::s![.., y..y + 8, x..x + 8])
            .fill(0.9);
    }
    assert_eq!(locator.locate(scene.view()).len(), MOST_PARTS);
    assert_eq!(locator.doubt(), Some(Doubt::TooMany));
}

#[test]
fn there_is_nothing_to_locate_on_a_surface_or_where_all_lies_as_it_should() {
    let verdict = |scenes: &mut dyn FnMut(usize) -> Array3<f32>, demand| {
        let mut fitter = LocatorFitter::new(LEVELS);
        for number in 0..20 {
            fitter.add(scenes(number).view());
        }
        match fitter.finish(demand, 224 * 224, 512) {
            Verdict::Part(_) => None,
            Verdict::None(reason) => Some(reason),
        }
    };
    let mut random = fastrand::Rng::with_seed(4);
    // Blotches of any size.
    let mut surface = |_: usize| {
        let blotches: Vec<[f32; 4]> = (0..30)
            .map(|_| [260.0, 200.0, 30.0, 0.5].map(|most| most * random.f32()))
            .collect();
        Array3::from_shape_fn((3, 200, 260), |(_, y, x)| {
            let level = blotches.iter().map(|[middle_x, middle_y, radius, depth]| {
                let off = (x as f32 - middle_x).hypot(y as f32 - middle_y) / (radius + 2.0);
                depth * (-off * off).exp()
            });
            0.2 + level.sum::<f32>().min(0.7) + 0.05 * random.f32()
        })
    };
    assert!(verdict(&mut surface, Demand::Auto).is_some());
    let mut made = Made::new(5);
    let fixed = Truth {
        x: 250.0,
        y: 190.0,
        angle: 0.2,
    };
    let mut still = |_: usize| made.scene(&[fixed]);
    let said = verdict(&mut still, Demand::Auto).unwrap();
    assert!(said.contains("same place"), "{said}");
    assert_eq!(verdict(&mut still, Demand::Part), None);
    assert!(verdict(&mut still, Demand::None).is_some());
}
