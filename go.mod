module github.com/seed-0b620db0/patchbay

go 1.26

require github.com/coder/websocket v1.8.15 // indirect
