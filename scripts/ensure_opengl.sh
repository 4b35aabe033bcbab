#!/bin/sh
# Make sure that MuJoCo can render without a display: test it, and where it cannot, install Mesa if
# this user may, else say in one line what to install.
#
# usage: sh scripts/ensure_opengl.sh [python]
set -u

python=${1:-python3}
libraries="libegl1 libgl1-mesa-dri libgles2 libopengl0"

can_render() {
    MUJOCO_GL=egl "$python" - >/dev/null 2>&1 <<'EOF'
import mujoco

model = mujoco.MjModel.from_xml_string("<mujoco/>")
with mujoco.Renderer(model, 8, 8) as renderer:
    renderer.update_scene(mujoco.MjData(model))
    assert renderer.render().shape == (8, 8, 3)
EOF
}

install() {
    $1 apt-get update -qq && DEBIAN_FRONTEND=noninteractive $1 apt-get install -y -qq --no-install-recommends $libraries
}

[ "$(uname)" = Linux ] || exit 0
can_render && exit 0
if command -v apt-get >/dev/null; then
    if [ "$(id -u)" = 0 ]; then
        install "" >/dev/null 2>&1
    elif sudo -n true 2>/dev/null; then
        install "sudo -n" >/dev/null 2>&1
    fi
    can_render && exit 0
fi
echo "MuJoCo cannot render without a display: install EGL and Mesa (Debian, Ubuntu: apt-get install $libraries)" >&2
exit 1
